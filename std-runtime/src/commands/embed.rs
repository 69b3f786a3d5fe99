//! `samara embed`: embeddings of texts.

use std::path::PathBuf;

use serde::Serialize;

use super::args::{EngineArgs, ExtraArgs};
use super::counter::Counter;
use super::out_file::refuse_foreign;
use super::{Command, Console, Error, output};
use crate::data::texts;
use crate::encoder::sentences::Sentences;
use crate::npy;
use crate::say;
use crate::stop::Stop;

const EXAMPLES: &str = "\
A folder of sentence-transformers says itself how hidden states are pooled; any
other has the normalised mean. --data takes rows with a text (.jsonl, .json,
.csv), or the lines of a .txt.

Examples:
  samara embed --model all-MiniLM-L6-v2 'A fox.' 'A vixen.' 'The stock market.'
  samara embed --model all-MiniLM-L6-v2 --data texts.jsonl --out texts.npy
  samara embed --model all-MiniLM-L6-v2 --data texts.txt --json > texts.jsonl";

/// Embed texts with an encoder such as a sentence transformer.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder of a BERT with its tokenizer.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Texts.
    #[arg(value_name = "TEXT", required_unless_present = "data", conflicts_with = "data")]
    texts: Vec<String>,
    /// Rows with texts, or the lines of a .txt; each also .gz or .zst.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The key or column of the text.
    #[arg(long, value_name = "NAME", default_value = "text", requires = "data")]
    field: String,
    /// Write the embeddings (texts, columns) in f32.
    #[arg(long, value_name = "FILE.npy")]
    out: Option<PathBuf>,
    /// Print a line of JSON for every text: {"text", "embedding"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    extra: ExtraArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A text with its embedding.
#[derive(Serialize)]
struct Row<'r> {
    schema: u32,
    text: &'r str,
    embedding: &'r [f32],
}

impl Command for Args {
    fn run(&self, console: &Console) -> Result<(), Error> {
        let stop = Stop::install(console.quiet).map_err(|error| Error::failed(error.to_string()))?;
        self.out.as_deref().map_or(Ok(()), |out| refuse_foreign(out, "an array of NumPy", b"\x93NUMPY"))?;
        let texts = match &self.data {
            Some(path) => texts::read(path, (&self.field, "--field"), &stop)?,
            None => self.texts.clone(),
        };
        let mut model = Sentences::open(self.engine.engine()?, &self.model, self.extra.tensors())?;
        let mut progress = Counter::new("texts", texts.len(), console.quiet);
        let (embeddings, cut) = model.embed(&texts, &mut |finished| {
            progress.show(finished);
            stop.check()
        })?;
        if cut > 0 && !console.quiet {
            let most = model.max_tokens();
            say::line(&format!("note: {cut} of {} texts have more than {most} tokens and lost their ends", texts.len()));
        }
        if let Some(out) = &self.out {
            npy::write_f32(out, &[texts.len(), model.width()], &embeddings.concat())?;
        }
        if self.json {
            let rows = texts.iter().zip(&embeddings);
            return rows.into_iter().try_for_each(|(text, embedding)| output::json(&Row { schema: 1, text, embedding }));
        }
        if self.out.is_some() { Ok(()) } else { output::write(compared(&texts, &embeddings).as_bytes()) }
    }
}

/// The cosine of every text with the first, the nearest first.
fn compared(texts: &[String], embeddings: &[Vec<f32>]) -> String {
    let mut rows: Vec<(f64, &String)> =
        texts.iter().zip(embeddings).map(|(text, embedding)| (cosine(embedding, &embeddings[0]), text)).collect();
    rows.get_mut(1..).unwrap_or_default().sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.into_iter().map(|(cosine, text)| format!("{cosine:7.4}  {text}\n")).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt().max(1e-12)
}
