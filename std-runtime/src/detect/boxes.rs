//! Boxes in images: annotated objects, and what a model detects.

/// A box, in pixels and continuous: its left upper corner and its extents, as COCO writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoundingBox {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Extent to the right.
    pub width: f64,
    /// Extent downwards.
    pub height: f64,
}

impl BoundingBox {
    /// From COCO's `[x, y, width, height]`.
    pub fn from_xywh([x, y, width, height]: [f64; 4]) -> Self {
        Self { x, y, width, height }
    }

    /// width × height, in pixels².
    pub fn area(&self) -> f64 {
        self.width * self.height
    }

    /// The area that two boxes share, in pixels²; `None` where they do not meet.
    pub fn shared_area(&self, other: &Self) -> Option<f64> {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        (width > 0.0 && height > 0.0).then_some(width * height)
    }
}

/// An annotated object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Annotation {
    /// Its id in the file.
    pub id: i64,
    /// Index of its image.
    pub image: u32,
    /// Index of its category.
    pub category: u32,
    /// Where it is.
    pub bbox: BoundingBox,
    /// Pixels² that it covers: of its segmentation, where there is one. Decides whether it is small, medium or large.
    pub area: f64,
    /// Whether it is a group of objects that were not annotated one by one.
    pub crowd: bool,
}

impl Annotation {
    /// How well a box covers the object: intersection over union, for a crowd over the area of the box; 0 to 1.
    pub fn overlap(&self, bbox: &BoundingBox) -> f64 {
        let Some(shared) = bbox.shared_area(&self.bbox) else { return 0.0 };
        let whole = if self.crowd { bbox.area() } else { bbox.area() + self.bbox.area() - shared };
        shared / whole
    }
}

/// A detected object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Index of its image.
    pub image: u32,
    /// Index of its category.
    pub category: u32,
    /// Where it is.
    pub bbox: BoundingBox,
    /// Confidence; any finite number, of which larger is surer.
    pub score: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_over_the_union_and_of_a_crowd_over_the_detection() {
        let object =
            |xywh, crowd| Annotation { id: 1, image: 0, category: 0, bbox: BoundingBox::from_xywh(xywh), area: 1.0, crowd };
        let half = BoundingBox::from_xywh([5.0, 0.0, 10.0, 10.0]);
        assert_eq!(object([0.0, 0.0, 10.0, 10.0], false).overlap(&half), 50.0 / 150.0);
        assert_eq!(object([0.0, 0.0, 10.0, 10.0], true).overlap(&half), 0.5);
        // Boxes that touch, and boxes without an area, share nothing.
        assert_eq!(object([15.0, 0.0, 10.0, 10.0], false).overlap(&half), 0.0);
        assert_eq!(object([6.0, 1.0, 0.0, 0.0], false).overlap(&half), 0.0);
        assert_eq!(object([6.0, 1.0, -3.0, 5.0], false).overlap(&half), 0.0);
    }
}
