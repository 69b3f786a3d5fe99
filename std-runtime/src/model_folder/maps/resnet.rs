//! Names of `ResNetForImageClassification`, and those of timm and torchvision, which parameters have in memory.
//!
//! Convolutions are (O, I, kh, kw) in files and (O, kh·kw·I) here. Files contain how many batches the statistics were taken from, which nothing reads.

use samara_core::model::resnet::ResNetConfig;

use crate::model_folder::map::{NameMap, NameRule};

/// The tables, each with a tensor that only a file of its kind has; the first is that of folders of `transformers`.
pub fn name_maps(config: &ResNetConfig) -> Vec<(&'static str, NameMap)> {
    let counts = || NameRule::ignore("*.num_batches_tracked");
    let head = NameRule::rename("fc.*", "classifier.1.*");
    let transformers = transformers(config, "", "resnet.").into_iter().chain([head, counts()]).collect();
    let timm = timm(config, "", "").into_iter().chain([counts()]).collect();
    vec![
        ("resnet.embedder.embedder.convolution.weight", NameMap { rules: transformers }),
        ("conv1.weight", NameMap { rules: timm }),
    ]
}

/// A convolution of the network.
struct Conv {
    /// Where it is in timm's names, and the scopes of convolution and norm there.
    place: String,
    own: [&'static str; 2],
    /// The same in those of `transformers`.
    theirs: String,
    /// The extents of a row on disk: channels, height and width.
    row: [usize; 3],
}

/// The names that `transformers` gives to the convolutions, under prefixes of names in memory and on disk.
pub fn transformers(config: &ResNetConfig, memory: &str, disk: &str) -> Vec<NameRule> {
    let of = |conv: Conv| {
        let [weight, norm] = conv.own.map(|own| format!("{memory}{}{own}", conv.place));
        let at = format!("{disk}{}", conv.theirs);
        [
            NameRule::rename(format!("{weight}.weight"), format!("{at}.convolution.weight")),
            NameRule::rename(format!("{norm}.*"), format!("{at}.normalization.*")),
            NameRule::extents(format!("{at}.convolution.weight"), conv.row, true),
        ]
    };
    convolutions(config).into_iter().flat_map(of).collect()
}

/// timm's names of the convolutions.
pub fn timm(config: &ResNetConfig, memory: &str, disk: &str) -> Vec<NameRule> {
    let of = |conv: Conv| {
        let [weight, norm] = conv.own.map(|own| format!("{}{own}", conv.place));
        [
            NameRule::rename(format!("{memory}{weight}.weight"), format!("{disk}{weight}.weight")),
            NameRule::rename(format!("{memory}{norm}.*"), format!("{disk}{norm}.*")),
            NameRule::extents(format!("{disk}{weight}.weight"), conv.row, true),
        ]
    };
    convolutions(config).into_iter().flat_map(of).collect()
}

/// All convolutions.
fn convolutions(config: &ResNetConfig) -> Vec<Conv> {
    let stem = [config.num_channels, 7, 7];
    let mut all = vec![Conv { place: String::new(), own: ["conv1", "bn1"], theirs: "embedder.embedder".to_owned(), row: stem }];
    let mut inputs = config.embedding_size;
    for (i, stage) in config.stages().enumerate() {
        for block in 0..stage.depth {
            let place = format!("layer{}.{block}.", i + 1);
            let theirs = format!("encoder.stages.{i}.layers.{block}");
            let conv = |own, part: &str, row| Conv { place: place.clone(), own, theirs: format!("{theirs}.{part}"), row };
            let inner = if config.bottleneck { stage.channels / 4 } else { stage.channels };
            let kernels: &[usize] = if config.bottleneck { &[1, 3, 1] } else { &[3, 3] };
            let names = [["conv1", "bn1"], ["conv2", "bn2"], ["conv3", "bn3"]];
            for (k, (&side, own)) in kernels.iter().zip(names).enumerate() {
                all.push(conv(own, &format!("layer.{k}"), [if k == 0 { inputs } else { inner }, side, side]));
            }
            if block == 0 {
                all.push(conv(["downsample.0", "downsample.1"], "shortcut", [inputs, 1, 1]));
            }
            inputs = stage.channels;
        }
    }
    all
}
