//! From a command's configuration to its objective, a file for each command.

pub mod dpo;
pub mod grpo;
pub mod kto;
pub mod policy;
pub mod ppo;
pub mod ptx;
pub mod reward;
pub mod rollout;
pub mod score;

/// A configuration of tables that every alignment has and some of its own; `$tune` is a function from it to `[tune]`, `$resolve` gives keys that are
/// absent their values.
macro_rules! align_config {
    ($(#[doc = $about:literal])+ $name:ident, $command:literal, $rows:expr, $tune:expr, $resolve:expr, { $( $(#[doc = $doc:literal])+ $field:ident: $type:ty; )* }) => {
        $crate::config::tables! {
            $(#[doc = $about])+
            pub $name checked by $name::check_together {
                /// `[data]`
                data: $crate::data::config::DataConfig;
                /// `[dialogue]`
                dialogue: $crate::dialogue::config::DialogueConfig;
                /// `[train]`
                train: $crate::train::config::TrainConfig;
                $( $(#[doc = $doc])+ $field: $type; )*
            }
        }

        impl $crate::align::run::AlignConfig for $name {
            const COMMAND: &'static str = $command;
            const SAMPLES: bool = $crate::config::is_among($command, &["samara ppo", "samara grpo"]);
            const ROWS: &'static [$crate::dialogue::row::Kind] = $rows;

            fn tune(&self) -> $crate::model::tune::config::TuneConfig {
                let tune: fn(&Self) -> $crate::model::tune::config::TuneConfig = $tune;
                tune(self)
            }

            fn resolve(&mut self) {
                let resolve: fn(&mut Self) = $resolve;
                resolve(self);
            }

            fn parts(&self) -> $crate::align::run::Parts<'_> {
                $crate::align::run::Parts { data: &self.data, dialogue: &self.dialogue, train: &self.train }
            }

            fn parts_mut(&mut self) -> $crate::align::run::PartsMut<'_> {
                $crate::align::run::PartsMut { data: &mut self.data, dialogue: &mut self.dialogue, train: &mut self.train }
            }
        }
    };
}
use align_config;
