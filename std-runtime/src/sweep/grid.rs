//! Grids of settings.

/// A key of the configuration with the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The key, as after `--set`.
    pub key: String,
    /// Its values, as after `--set`.
    pub values: Vec<String>,
}

impl Axis {
    /// Reads `KEY=VALUE,VALUE,…`; a comma within brackets or quotes is a part of a value.
    ///
    /// # Errors
    /// What is expected.
    pub fn read(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected a key with values, as in train.lr=1e-3,1e-2, or vpt");
        let (key, values) = text.split_once('=').ok_or_else(expected)?;
        let (mut depth, mut quoted) = (0_i32, false);
        let values = values.split(|c: char| {
            match c {
                '[' | '{' if !quoted => depth += 1,
                ']' | '}' if !quoted => depth -= 1,
                '"' | '\'' => quoted = !quoted,
                _ => {}
            }
            c == ',' && depth == 0 && !quoted
        });
        let values: Vec<String> = values.map(|value| value.trim().to_owned()).collect();
        let key = key.trim().to_owned();
        if !key.contains('.') || values.iter().any(String::is_empty) {
            return Err(expected());
        }
        if let Some(twice) = values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)) {
            return Err(format!("{text:?}: expected different values, found {} twice", twice.1));
        }
        Ok(Self { key, values })
    }

    /// One of numbers.
    fn of_numbers(key: &str, values: impl IntoIterator<Item = f64>) -> Self {
        Self { key: key.to_owned(), values: values.into_iter().map(|value| format!("{value:e}")).collect() }
    }
}

/// Every combination of values as settings `KEY=VALUE`; the last key changes fastest.
pub fn cells(axes: &[Axis]) -> Vec<Vec<String>> {
    axes.iter().fold(vec![Vec::new()], |cells, axis| {
        let with = |cell: &Vec<String>, value: &String| [&cell[..], &[format!("{}={value}", axis.key)]].concat();
        cells.iter().flat_map(|cell| axis.values.iter().map(move |value| with(cell, value))).collect()
    })
}

/// Settings and grid of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Settings that a user's own come after.
    pub settings: Vec<String>,
    /// The grid.
    pub axes: Vec<Axis>,
    /// Seeds of the chosen cell.
    pub seeds: Vec<u64>,
}

/// The search of Jia et al. 2022, as their code has it: learning rates that are multiplied by batch size / 256, weight decays, a tenth of the steps as
/// warm-up, then a cosine to 0. SGD with momentum, and AdamW where everything is trained. Smaller rates come first, so that of equal cells the smaller one is
/// chosen. `batch` images make one of `steps` steps.
pub fn vpt(is_full: bool, batch: usize, steps: u64) -> Protocol {
    let scaled = |bases: &'static [f64]| bases.iter().map(move |base| base * batch as f64 / 256.0);
    let (optimizer, rates) = if is_full {
        (&["train.optimizer=adamw", "train.beta2=0.999"][..], scaled(&[1e-4, 5e-4, 1e-3, 5e-3]))
    } else {
        let sgd = &["train.optimizer=sgd", "train.momentum=0.9"][..];
        (sgd, scaled(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0]))
    };
    let common = ["train.schedule=cosine", "train.min_lr=0", "train.grad_clip=0"].into_iter().chain(optimizer.iter().copied());
    let warmup = format!("train.warmup_steps={}", steps / 10);
    Protocol {
        settings: common.map(str::to_owned).chain([warmup]).collect(),
        axes: vec![Axis::of_numbers("train.lr", rates), Axis::of_numbers("train.weight_decay", [0.0, 1e-4, 1e-3, 1e-2])],
        seeds: vec![42, 44, 82, 100, 800],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination_in_order() {
        let axes = ["train.lr=1e-3, 1e-2", "model.depths=[1,2],[3]"].map(|text| Axis::read(text).unwrap());
        let expected = [
            ["train.lr=1e-3", "model.depths=[1,2]"],
            ["train.lr=1e-3", "model.depths=[3]"],
            ["train.lr=1e-2", "model.depths=[1,2]"],
            ["train.lr=1e-2", "model.depths=[3]"],
        ];
        assert_eq!(cells(&axes), expected);
        assert_eq!(cells(&[]), [Vec::<String>::new()]);
        for wrong in ["train.lr", "lr=1", "train.lr=", "train.lr=1,,2"] {
            assert!(Axis::read(wrong).unwrap_err().contains("expected a key with values"), "{wrong}");
        }
        assert!(Axis::read("train.lr=1,2,1").unwrap_err().contains("found 1 twice"));
    }

    #[test]
    fn the_protocol_of_prompts_is_the_papers() {
        let sgd = vpt(false, 64, 100);
        assert_eq!(sgd.axes.iter().map(|axis| axis.values.len()).collect::<Vec<_>>(), [10, 4]);
        assert_eq!((sgd.axes[0].values[0].as_str(), sgd.axes[0].values[9].as_str()), ("1.25e-2", "1.25e1"));
        assert!(sgd.settings.contains(&"train.warmup_steps=10".to_owned()));
        let full = vpt(true, 256, 5);
        assert_eq!(full.axes[0].values, ["1e-4", "5e-4", "1e-3", "5e-3"]);
    }
}
