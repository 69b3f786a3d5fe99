//! `samara reward`: a reward model from what people prefer.

use super::align_config;
use crate::align::config::RewardConfig;
use crate::align::output::Output;
use crate::align::reward::{RewardSpec, RewardTraining};
use crate::align::rows::RowEncoder;
use crate::align::run::{AlignRequest, Context, Prepared, run as train};
use crate::config::Invalid;
use crate::dialogue::row::Kind;
use crate::lm::scored::{ScoreInit, Scored};
use crate::model::folder::FolderConfig;
use crate::model::tune::config::{Method, TuneConfig};
use crate::model_folder::is_model_folder;
use crate::tokenizer::Tokenizer;
use crate::train::dialogues::check_tokens;
use crate::train::error::TrainingError;
use crate::train::request::TrainOutcome;

align_config! {
    /// The configuration of a training of a reward model.
    RewardRun, "samara reward", &[Kind::Preference], |run| run.tune.clone(), |_| (), {
        /// `[tune]`
        tune: TuneConfig;
        /// `[reward]`
        reward: RewardConfig;
    }
}

impl RewardRun {
    fn check_together(&self) -> Result<(), Invalid> {
        self.dialogue.check(self.train.block_size)
    }
}

/// Trains a reward model.
///
/// # Errors
/// As [`train`].
pub fn run(request: AlignRequest<RewardRun>) -> Result<Option<TrainOutcome>, TrainingError> {
    train(with_pad(request)?, prepare)
}

/// The token for padding that a folder gets which has none of its own: other tools find the end of a row by it.
pub const PAD: &str = "<|pad|>";

/// The request with a token for padding, unless the base has one that ends no text. Adapters leave the base as it is.
fn with_pad(mut request: AlignRequest<RewardRun>) -> Result<AlignRequest<RewardRun>, TrainingError> {
    let config = &mut request.config;
    let init = config.train.init.as_deref().filter(|folder| Tokenizer::is_in(folder) && is_model_folder(folder));
    let is_open = config.dialogue.pad_token.is_none() && config.tune.method != Method::Lora;
    if let Some(folder) = init.filter(|_| is_open) {
        let (base, tokenizer) = (FolderConfig::read(folder)?, Tokenizer::load(folder)?);
        let pad = own_pad(&tokenizer, &base.stops(&tokenizer), base.model.vocab_size());
        config.dialogue.pad_token = if pad.is_none() { Some(PAD.to_owned()) } else { None };
    }
    Ok(request)
}

/// The token for padding of a folder, where it ends no text and the model has it.
pub fn own_pad(tokenizer: &Tokenizer, stops: &[i32], vocab_size: Option<usize>) -> Option<u32> {
    let (_, text) = tokenizer.named_tokens().into_iter().find(|(name, _)| *name == "pad_token")?;
    let id = tokenizer.token_id(&text)?;
    Some(id).filter(|&id| !stops.contains(&(id as i32)) && vocab_size.is_none_or(|ids| (id as usize) < ids))
}

fn prepare(context: &Context<RewardRun>) -> Result<Prepared<RewardTraining>, TrainingError> {
    let Context { config, from, base, encoder, rows, .. } = context;
    let max_length = context.max_length();
    let rows_of = RowEncoder { encoder, max_length, bad_row: config.data.on_bad_row };
    let (rankings, val) = (rows_of.rankings(&rows.train)?, rows_of.rankings(&rows.val)?);
    let mut lines = rankings.lines("prompts", max_length);
    lines.extend(val.lines("validation", max_length));
    lines.extend(rankings.differing(&rows.train.path)?);
    if let Some(preferred) = rankings.rows.first().and_then(|ranking| ranking.completions.first()) {
        lines.extend(rows_of.show_scored("first example, the preferred completion", preferred));
    }
    let model = Scored::tuned(&base.model, ScoreInit::Normal, &config.tune)?;
    check_tokens(&*model.architecture, encoder)?;
    let stops: Vec<i32> = encoder.stops().iter().map(|&id| id as i32).collect();
    let pad = own_pad(encoder.tokenizer(), &stops, base.model.vocab_size());
    let padding = match pad {
        Some(id) => {
            format!("padding for other tools: {:?}, id {id}", String::from_utf8_lossy(&encoder.tokenizer().token_bytes(id)))
        }
        None => format!("the base has no token for padding: samara merge adds {PAD:?} to the whole model"),
    };
    lines.push(format!("the score is that of the token that ends a completion; {padding}"));
    if config.reward.zero_mean && !model.can_shift() {
        lines.push(
            "note: reward.zero_mean does nothing: the bias of the last norm, which moves all scores, is not there or not trained"
                .to_owned(),
        );
    }
    let count = rankings.rows.len();
    let spec = RewardSpec {
        model,
        init: config.train.init.clone(),
        loss: config.reward.loss(),
        rankings: rankings.rows,
        held_out: val.rows,
        train: config.train.clone(),
    };
    let output = Output::new(base, from, encoder)?;
    let objective = RewardTraining::new(spec).with_output(output, pad, config.reward.zero_mean);
    let rows_per_step = config.train.batch_size * config.train.grad_accumulation;
    Ok(Prepared { objective, lines, content: String::new(), rows: count, rows_per_step })
}
