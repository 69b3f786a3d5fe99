//! `samara generate`.

use std::io;
use std::path::PathBuf;

use super::args::{MachineArgs, set_keys};
use super::output;
use super::requests::{BlocksCost, GenerateOutcome, GenerateRequest, Kept, KvCache};
use crate::config::Layers;
use crate::error::Error;
use crate::generate;
use crate::say;

const EXAMPLES: &str = "\
With --quantize the losses (nats per token) on the prompt and on the text
generated are printed beside those of f32. The text was drawn with weights in
blocks, which favours them there: score and eval tell of a text of your own.

Examples:
  samara generate --model runs/tales-001 --prompt 'Once upon a time'
  samara generate --model gpt2 --prompt 'The' --temperature 0
  samara generate --model gpt2 --prompt 'The' --top-p 0.9 --seed 7
  samara generate --model gpt2 --prompt 'The' --quantize q8";

/// Continue a text. The same seed gives the same text for any number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What the text begins with.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Tokens to generate [default: 200].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_new_tokens: Option<String>,
    /// Logits are divided by it; 0: the most probable token [default: 0.8].
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    temperature: Option<String>,
    /// Only the N most probable tokens; 0: all.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    top_k: Option<String>,
    /// Only the most probable tokens whose probabilities reach F; 1: all.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    top_p: Option<String>,
    /// Only tokens at least F as probable as the best; 0: all.
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    min_p: Option<String>,
    /// Seed of the draws.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<String>,
    #[command(flatten)]
    kept: Kept,
    /// Keep keys and values in this type.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    kv_cache: KvCache,
    /// Read [generate] of a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, as in generate.top_k=40.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
}

impl Args {
    pub(super) fn run(&self, quiet: bool) -> Result<(), Error> {
        let mut request = self.request()?;
        // Nobody would see what blocks cost.
        request.kept.skip_f32 |= quiet;
        let outcome = generate::run(&request, &mut io::stdout().lock())?;
        if !quiet {
            say::write(&self.summary(&outcome));
        }
        Ok(())
    }

    fn summary(&self, outcome: &GenerateOutcome) -> String {
        let mut text = format!("{} tokens, {:.0} tokens/s\n", outcome.new_tokens, outcome.tokens_per_s);
        if let Some(quantize) = self.kept.quantize {
            let (own, f32_bytes) = (output::bytes(outcome.weight_bytes), output::bytes(outcome.f32_bytes));
            text += &format!("weights in {}: {own}; in f32 they are {f32_bytes}\n", quantize.name());
        }
        for (what, cost) in [("the prompt", outcome.prompt_cost), ("the text generated", outcome.new_cost)] {
            if let Some(BlocksCost { loss, f32_loss, tokens }) = cost {
                text += &format!("loss on {what}: {loss:.6}{}, {tokens} tokens\n", output::cost(loss, Some(f32_loss)));
            }
        }
        text
    }

    fn request(&self) -> Result<GenerateRequest, Error> {
        let mut layers = Layers::new();
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        set_keys(&mut layers, &self.set, "generate")?;
        let prompt = self.prompt.as_ref().map(|text| toml::Value::String(text.clone()).to_string());
        let flags = [
            ("--prompt", "generate.prompt", &prompt),
            ("--max-new-tokens", "generate.max_new_tokens", &self.max_new_tokens),
            ("--temperature", "generate.temperature", &self.temperature),
            ("--top-k", "generate.top_k", &self.top_k),
            ("--top-p", "generate.top_p", &self.top_p),
            ("--min-p", "generate.min_p", &self.min_p),
            ("--seed", "generate.seed", &self.seed),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.flag(flag, key, value)?;
            }
        }
        let generate = layers.peek().generate.clone();
        Ok(GenerateRequest {
            model: self.model.clone(),
            generate,
            kept: self.kept,
            kv_cache: self.kv_cache,
            machine: self.machine.machine()?,
        })
    }
}
