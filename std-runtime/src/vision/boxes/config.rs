//! `[data]` and `[augment]` of detectors.

use std::path::PathBuf;

use crate::config::table;
use crate::vision::config::BadImage;

table! {
    /// Images with boxes.
    pub BoxDataConfig {
        /// COCO's annotations (.json, also .gz), a folder with such files, or a YOLO folder or its data.yaml; absent: the generated world of shapes.
        path: Option<PathBuf> = None;
        /// The folder of the images that COCO's file_name refers to; absent: beside the annotations, or where COCO has them.
        images: Option<PathBuf> = None;
        /// The share of the images that is held out for validation, unless the data has a validation split.
        val_fraction: f64 = 0.1, 0..=0.9;
        /// An image that cannot be read or has another size than annotated: "error" stops, "skip" leaves it out and lists it.
        on_bad_image: BadImage = BadImage::Error;
        /// A box that is not finite, without an extent, outside of its image, or of an unknown image or category: "error" stops, "skip" leaves it out and
        /// lists it.
        on_bad_box: BadImage = BadImage::Error;
    }
}

table! {
    /// Changes of training images and their boxes, drawn anew in every epoch from the seed, the image and the epoch.
    pub BoxAugmentConfig {
        /// Mirror half of the images. Wrong where left and right matter.
        flip: bool = true;
        /// The smallest longer side of a resized image, as a share of model.image_size; 1: always the largest that fits. The authors' 480 of 800: 0.6.
        min_scale: f64 = 1.0, 0.05..=1;
        /// The probability of a random crop, before resizing; the authors' is 0.5.
        crop: f64 = 0.0, 0..=1;
        /// The smallest height and width of a crop, as a share of the image's.
        crop_side: f64 = 0.5, 0.05..=1;
        /// The largest change of brightness, contrast and saturation, as a share of each.
        jitter: f64 = 0.0, 0..=1;
    }
    unread: BoxAugmentConfig::unread;
}

impl BoxAugmentConfig {
    fn unread(&self) -> Vec<crate::config::Unread> {
        let crops = self.crop > 0.0;
        let key = crate::config::Unread { key: "crop_side", instead: "it applies to crops: set augment.crop" };
        if crops { Vec::new() } else { vec![key] }
    }
}
