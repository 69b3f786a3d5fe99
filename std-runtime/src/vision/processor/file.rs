//! `preprocessor_config.json`: how a model's images are prepared. It is read, and written beside the model.
//!
//! Old forms are accepted: `feature_extractor_type`, a number as `size` or `crop_size`. Images become RGB whatever `do_convert_rgb` says, because the models
//! here have three channels.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::sizes::{LARGEST, side, sides};
use super::{IMAGENET, Kind, Processor, Resize, detr, vilt};
use crate::files::IoError;
use crate::model_folder::FolderError;
use crate::model_folder::keys::Keys;
use crate::run::durable;
use crate::vision::image::CHANNELS;
use crate::vision::image::resize::Filter;

/// The file of a model folder that describes its image processor.
pub const PROCESSOR_FILE: &str = "preprocessor_config.json";

/// The names of a class: the one that is written, and old ones.
const KINDS: [(Kind, [&str; 2]); 6] = [
    (Kind::Vit, ["ViTImageProcessor", "ViTFeatureExtractor"]),
    (Kind::Deit, ["DeiTImageProcessor", "DeiTFeatureExtractor"]),
    (Kind::Clip, ["CLIPImageProcessor", "CLIPFeatureExtractor"]),
    (Kind::ConvNext, ["ConvNextImageProcessor", "ConvNextFeatureExtractor"]),
    (Kind::Detr, ["DetrImageProcessor", "DetrFeatureExtractor"]),
    (Kind::Vilt, ["ViltImageProcessor", "ViltFeatureExtractor"]),
];

const CLIP_MEAN: [f64; CHANNELS] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; CHANNELS] = [0.26862954, 0.26130258, 0.27577711];

impl Processor {
    /// The defaults of a class in `transformers`.
    pub fn of_kind(kind: Kind) -> Self {
        let half = [[0.5; CHANNELS]; 2];
        let (resize, filter, crop, normalize) = match kind {
            Kind::Vit => (Resize::To([224; 2]), Filter::Bilinear, None, half),
            Kind::Deit => (Resize::To([256; 2]), Filter::Bicubic, Some([224; 2]), half),
            Kind::Clip => (Resize::Shorter(224), Filter::Bicubic, Some([224; 2]), [CLIP_MEAN, CLIP_STD]),
            Kind::ConvNext => (Resize::Cropped { side: 384, cropped: CROPPED }, Filter::Bicubic, None, half),
            Kind::Detr => (detr::USUAL, Filter::Bilinear, None, IMAGENET),
            Kind::Vilt => (vilt::USUAL, Filter::Bicubic, None, half),
        };
        let (rescale, normalize) = (Some(1.0 / 255.0), Some(normalize));
        Self { kind, resize: Some(resize), filter, crop, rescale, normalize, pad: None, others: Map::new() }
    }

    /// Reads the processor of a model folder; `None` if it has none.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown class, and, by name, a key with a value that cannot be used.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let path = folder.join(PROCESSOR_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(IoError::at(&path, "read"))?;
        Self::parse(&path, &text).map(Some)
    }

    /// The processor that the content of a file describes; errors call the file `path`.
    ///
    /// # Errors
    /// As [`Processor::read`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, FolderError> {
        let json: Map<String, Value> = serde_json::from_slice(text).map_err(|error| FolderError::Json {
            path: path.to_path_buf(),
            line: error.line(),
            column: error.column(),
            message: error.to_string(),
        })?;
        Self::from_keys(&Keys::new(path, &json))
    }

    /// Refuses a processor whose results a model of this height and width cannot read.
    ///
    /// # Errors
    /// The size.
    pub fn check(&self, folder: &Path, [height, width]: [usize; 2]) -> Result<(), FolderError> {
        if self.size() == Some([height, width]) {
            return Ok(());
        }
        let found = self.size().map_or_else(|| "a size that depends on the image".to_owned(), |[h, w]| format!("{h} x {w}"));
        let (path, expected) = (folder.join(PROCESSOR_FILE), format!("the model's image_size, {height} x {width} pixels"));
        Err(FolderError::Key { path, key: "size".to_owned(), expected, found })
    }

    fn from_keys(keys: &Keys<'_>) -> Result<Self, FolderError> {
        let usual = Self::of_kind(kind(keys)?);
        keys.pass_over(&["do_convert_rgb", "processor_class", "image_processor_type", "feature_extractor_type"]);
        // Values of steps that are left out are not kept.
        keys.pass_over(&["size", "crop_pct", "crop_size", "rescale_factor", "image_mean", "image_std"]);
        let is_detr = usual.kind == Kind::Detr;
        let size_of = match usual.kind {
            Kind::Detr => detr::size(keys)?,
            Kind::Vilt => vilt::size(keys)?,
            _ => size(keys, &usual)?,
        };
        let resize = if flag(keys, "do_resize", true)? { Some(size_of) } else { None };
        let crops = flag(keys, "do_center_crop", usual.crop.is_some())?;
        let crop = if crops { Some(crop_size(keys, &usual)?) } else { None };
        let rescale = if flag(keys, "do_rescale", true)? { Some(positive(keys, "rescale_factor", 1.0 / 255.0)?) } else { None };
        let normalize = if flag(keys, "do_normalize", true)? { Some(normalization(keys, &usual)?) } else { None };
        let filter = match keys.not_null("resample") {
            None => usual.filter,
            Some(value) => value
                .as_u64()
                .and_then(Filter::of_number)
                .ok_or_else(|| keys.wrong("resample", "a filter of Pillow, 0 to 5", value))?,
        };
        let pad = if is_detr { detr::pad(keys)? } else { None };
        keys.only("do_pad", &Value::Bool(is_detr || usual.kind == Kind::Vilt))?;
        let own = Self { resize, filter, crop, rescale, normalize, pad, others: keys.others(), ..usual };
        let is_finite = own.values().all().all(f32::is_finite);
        is_finite.then_some(own).ok_or_else(|| {
            let found = "values of pixels that are not";
            keys.wrong("rescale_factor", "a factor, means and deviations that make every byte a finite f32 value", found)
        })
    }

    /// Writes it into a model folder.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), IoError> {
        let path = folder.join(PROCESSOR_FILE);
        let text = serde_json::to_string_pretty(&self.to_json()).unwrap_or_default() + "\n";
        durable::write(&path, text.as_bytes()).map_err(IoError::at(&path, "write"))
    }

    /// The content of its file.
    pub fn to_json(&self) -> Value {
        let mut json = self.others.clone();
        let usual = Self::of_kind(self.kind);
        let name = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, names)| names[0]);
        let sides = |[height, width]: [usize; 2]| json!({ "height": height, "width": width });
        let mut put = |key: &str, value: Value| json.insert(key.to_owned(), value);
        put("image_processor_type", name.into());
        put("do_convert_rgb", true.into());
        put("do_resize", self.resize.is_some().into());
        match self.resize.or(usual.resize) {
            Some(Resize::To(size)) => put("size", sides(size)),
            Some(Resize::Shorter(side)) => put("size", json!({ "shortest_edge": side })),
            Some(Resize::Cropped { side, cropped }) => {
                put("crop_pct", cropped.into());
                put("size", json!({ "shortest_edge": side }))
            }
            Some(Resize::Between { shorter, longer }) => put("size", json!({ "shortest_edge": shorter, "longest_edge": longer })),
            Some(Resize::Within([height, width])) => put("size", json!({ "max_height": height, "max_width": width })),
            Some(Resize::Multiples { shorter, divisor }) => {
                put("size_divisor", divisor.into());
                put("size", json!({ "shortest_edge": shorter }))
            }
            None => None,
        };
        if self.kind == Kind::Detr {
            put("do_pad", true.into());
            put("pad_size", self.pad.map_or(Value::Null, sides));
        }
        if self.kind == Kind::Vilt {
            put("do_pad", true.into());
        }
        put("resample", self.filter.number().into());
        put("do_center_crop", self.crop.is_some().into());
        if let Some(crop) = self.crop {
            put("crop_size", sides(crop));
        }
        put("do_rescale", self.rescale.is_some().into());
        put("rescale_factor", self.rescale.unwrap_or(1.0 / 255.0).into());
        put("do_normalize", self.normalize.is_some().into());
        if let Some([mean, std]) = self.normalize {
            put("image_mean", json!(mean));
            put("image_std", json!(std));
        }
        json.into()
    }
}

/// The smallest share of the shorter side that may be kept.
const LEAST_SHARE: f64 = 0.01;
/// The share of the shorter side that ConvNeXT keeps by default.
const CROPPED: f64 = 224.0 / 256.0;

fn kind(keys: &Keys<'_>) -> Result<Kind, FolderError> {
    let known = || KINDS.map(|(_, [name, _])| name).join(", ");
    let (key, value) = match (keys.not_null("image_processor_type"), keys.not_null("feature_extractor_type")) {
        (Some(value), _) => ("image_processor_type", value),
        (None, Some(value)) => ("feature_extractor_type", value),
        (None, None) => return Err(keys.wrong("image_processor_type", format!("one of {}", known()), "none")),
    };
    // The two ways to compute the same, by their suffixes.
    let word = value.as_str().unwrap_or_default();
    let word = word.strip_suffix("Fast").or_else(|| word.strip_suffix("Pil")).unwrap_or(word);
    let found = KINDS.into_iter().find(|(_, names)| names.contains(&word));
    found.map(|(kind, _)| kind).ok_or_else(|| keys.wrong(key, format!("one of {}", known()), value))
}

fn flag(keys: &Keys<'_>, key: &str, usual: bool) -> Result<bool, FolderError> {
    match keys.not_null(key) {
        None => Ok(usual),
        Some(value) => value.as_bool().ok_or_else(|| keys.wrong(key, "true or false", value)),
    }
}

fn positive(keys: &Keys<'_>, key: &str, usual: f64) -> Result<f64, FolderError> {
    match keys.not_null(key) {
        None => Ok(usual),
        Some(value) => {
            let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
            number.ok_or_else(|| keys.wrong(key, "a number above 0", value))
        }
    }
}

fn size(keys: &Keys<'_>, usual: &Processor) -> Result<Resize, FolderError> {
    let cropped = match usual.kind {
        Kind::ConvNext => Some(match positive(keys, "crop_pct", CROPPED)? {
            share if share >= LEAST_SHARE => share,
            share => return Err(keys.wrong("crop_pct", format!("at least {LEAST_SHARE}"), share)),
        }),
        _ => None,
    };
    let shorter = |side| cropped.map_or(Resize::Shorter(side), |cropped| Resize::Cropped { side, cropped });
    let Some(value) = keys.not_null("size") else {
        return Ok(match usual.resize {
            Some(Resize::Cropped { side, .. }) => shorter(side),
            other => other.unwrap_or(Resize::To([224; 2])),
        });
    };
    // A number is a square where the class resizes to a square, and the shorter side elsewhere.
    let is_square = matches!(usual.resize, Some(Resize::To(_)));
    let of_object = || {
        let object = value.as_object()?;
        match object.get("shortest_edge") {
            Some(edge) if object.len() == 1 => side(edge).map(shorter),
            _ if cropped.is_some() => None,
            _ => sides(value).map(Resize::To),
        }
    };
    let found = match side(value) {
        Some(side) if is_square => Some(Resize::To([side; 2])),
        Some(side) => Some(shorter(side)),
        None => of_object(),
    };
    let forms = if cropped.is_some() { "{\"shortest_edge\"}" } else { "{\"height\", \"width\"} or {\"shortest_edge\"}" };
    found.ok_or_else(|| keys.wrong("size", format!("a number of pixels up to {LARGEST}, or {forms} of such"), value))
}

fn crop_size(keys: &Keys<'_>, usual: &Processor) -> Result<[usize; 2], FolderError> {
    let Some(value) = keys.not_null("crop_size") else { return Ok(usual.crop.unwrap_or([224; 2])) };
    let found = side(value).map(|side| [side; 2]).or_else(|| sides(value));
    found.ok_or_else(|| {
        keys.wrong("crop_size", format!("a number of pixels up to {LARGEST}, or {{\"height\", \"width\"}} of such"), value)
    })
}

fn normalization(keys: &Keys<'_>, usual: &Processor) -> Result<[[f64; CHANNELS]; 2], FolderError> {
    let [mean, std] = usual.normalize.unwrap_or([[0.5; CHANNELS]; 2]);
    let std = channels(keys, "image_std", std, "3 numbers above 0", |x| x > 0.0)?;
    Ok([channels(keys, "image_mean", mean, "3 numbers", |_| true)?, std])
}

fn channels(
    keys: &Keys<'_>,
    key: &str,
    usual: [f64; CHANNELS],
    expected: &str,
    fits: impl Fn(f64) -> bool,
) -> Result<[f64; CHANNELS], FolderError> {
    let Some(value) = keys.not_null(key) else { return Ok(usual) };
    let number = |value: &Value| value.as_f64().filter(|x| x.is_finite() && fits(*x));
    let found = match value {
        Value::Array(all) => all.iter().map(number).collect::<Option<Vec<f64>>>().and_then(|all| all.try_into().ok()),
        one => number(one).map(|x| [x; CHANNELS]),
    };
    found.ok_or_else(|| keys.wrong(key, expected, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &Value) -> Result<Processor, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(PROCESSOR_FILE), json.to_string()).unwrap();
        Processor::read(folder.path()).map(Option::unwrap).map_err(|error| error.to_string())
    }

    #[test]
    fn old_forms_are_read_and_what_is_written_is_read_again() {
        let old = json!({"feature_extractor_type": "ViTFeatureExtractor", "size": 96, "image_mean": 0.25, "someone": "else's"});
        let vit = read(&old).unwrap();
        assert_eq!((vit.resize, vit.normalize), (Some(Resize::To([96; 2])), Some([[0.25; 3], [0.5; 3]])));
        let clip = read(&json!({"image_processor_type": "CLIPImageProcessorFast", "size": 80, "crop_size": 64})).unwrap();
        assert_eq!((clip.resize, clip.crop), (Some(Resize::Shorter(80)), Some([64; 2])));
        let convnext = read(&json!({"image_processor_type": "ConvNextImageProcessor", "size": 64})).unwrap();
        assert_eq!(convnext.resize, Some(Resize::Cropped { side: 64, cropped: 0.875 }));
        let plain = read(&json!({"image_processor_type": "DeiTImageProcessor", "do_resize": false, "do_center_crop": false,
            "do_rescale": false, "do_normalize": false}))
        .unwrap();
        assert_eq!((plain.resize, plain.crop, plain.rescale, plain.normalize), (None, None, None, None));
        let vilt =
            read(&json!({"image_processor_type": "ViltImageProcessor", "size": 96, "size_divisor": 16, "do_pad": true})).unwrap();
        assert_eq!(vilt, Processor::vilt(96, 16));
        for processor in [vit, clip, convnext, plain, vilt] {
            assert_eq!(read(&processor.to_json()).unwrap(), processor);
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (key, value, expected) in [
            ("image_processor_type", json!("LlavaImageProcessor"), "image_processor_type: expected one of ViTImageProcessor"),
            ("size", json!({"height": 8}), "size: expected a number of pixels"),
            ("size", json!(1e9), "size: expected a number of pixels"),
            ("image_std", json!([0.5, 0.0, 0.5]), "image_std: expected 3 numbers above 0"),
            ("image_mean", json!([0.5, 0.5]), "image_mean: expected 3 numbers"),
            ("resample", json!(6), "resample: expected a filter of Pillow"),
            ("do_resize", json!("yes"), "do_resize: expected true or false"),
            ("do_pad", json!(true), "do_pad: expected false"),
        ] {
            let mut json = json!({"image_processor_type": "ViTImageProcessor"});
            json[key] = value;
            let error = read(&json).unwrap_err();
            assert!(error.contains(expected), "got {error}\nwant {expected}");
        }
    }

    #[test]
    fn another_size_keeps_the_share_that_is_cut() {
        let clip = Processor::of_kind(Kind::Clip).with_size([112; 2]);
        assert_eq!((clip.resize, clip.crop), (Some(Resize::Shorter(112)), Some([112; 2])));
        let deit = Processor::of_kind(Kind::Deit).with_size([112; 2]);
        assert_eq!((deit.resize, deit.crop), (Some(Resize::To([128; 2])), Some([112; 2])));
        assert_eq!(Processor::vit([64; 2]).with_size([32, 48]), Processor::vit([32, 48]));
    }
}
