//! True captions of images against captions that are almost true: does a model score the true one higher?

use serde::Serialize;

use super::world::{CaptionWorld, HardNegative, WorldSplit};
use crate::vision::shapes::captions::Change;

/// Held-out images of a generated world with their captions, each with false ones.
pub struct HardPairs {
    items: Vec<(String, Vec<HardNegative>)>,
}

/// The share of pairs of a true and a false caption in which the true one has the higher score; chance is 1/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HardAccuracy {
    /// Of all pairs.
    pub all: f64,
    /// Where two objects have each other's colour; `None` without such pairs.
    pub colours: Option<f64>,
    /// Where sides are exchanged.
    pub sides: Option<f64>,
    /// Where one attribute is another.
    pub attribute: Option<f64>,
    /// How many pairs there are.
    pub pairs: usize,
}

impl HardPairs {
    /// Those of the first `images` held-out images.
    pub fn of(world: &CaptionWorld, images: u64) -> Self {
        let of = |row| (world.caption(WorldSplit::Val, row), world.hard_negatives(WorldSplit::Val, row));
        Self { items: (0..images).map(of).collect() }
    }

    /// What a model has to score: images by number, each with its true caption and then its false ones.
    pub fn questions(&self) -> impl Iterator<Item = (usize, &str)> {
        self.items.iter().enumerate().flat_map(|(image, (caption, negatives))| {
            let captions = [caption.as_str()].into_iter().chain(negatives.iter().map(|negative| negative.caption.as_str()));
            captions.map(move |caption| (image, caption))
        })
    }

    /// The accuracy of scores, one for every question; an equal score is wrong.
    pub fn accuracy(&self, scores: &[f64]) -> HardAccuracy {
        let mut of_kind = [[0_usize; 2]; Change::ALL.len()];
        let mut rest = scores.iter();
        for (_, negatives) in &self.items {
            let Some(own) = rest.next() else { break };
            for (negative, score) in negatives.iter().zip(rest.by_ref()) {
                let [right, all] = &mut of_kind[negative.change as usize];
                *right += usize::from(own > score);
                *all += 1;
            }
        }
        let [right, pairs] = [0, 1].map(|i| of_kind.iter().map(|counts| counts[i]).sum::<usize>());
        let share = |change: Change| {
            let [right, all] = of_kind[change as usize];
            (all > 0).then(|| right as f64 / all as f64)
        };
        let [colours, sides, attribute] = Change::ALL.map(share);
        HardAccuracy { all: right as f64 / pairs.max(1) as f64, colours, sides, attribute, pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_text::world::CaptionsConfig;

    #[test]
    fn a_pair_is_won_by_the_higher_score_alone() {
        let hard = HardPairs::of(&CaptionWorld::new(&CaptionsConfig::default()), 50);
        let questions: Vec<(usize, String)> = hard.questions().map(|(image, caption)| (image, caption.to_owned())).collect();
        assert_eq!((questions.len(), questions[249].0), (250, 49));
        let is_true = |at: usize| at.is_multiple_of(5);
        let score = |wins: bool| hard.accuracy(&(0..250).map(|at| f64::from(u8::from(is_true(at) && wins))).collect::<Vec<_>>());
        let all = HardAccuracy { all: 1.0, colours: Some(1.0), sides: Some(1.0), attribute: Some(1.0), pairs: 200 };
        assert_eq!(score(true), all);
        assert_eq!(score(false).all, 0.0, "equal scores find nothing");
        // A bag of words cannot tell what was exchanged.
        let bag = |caption: &str| {
            let mut words: Vec<&str> = caption.split(' ').collect();
            words.sort_unstable();
            words.concat()
        };
        let truths: Vec<String> = questions.iter().step_by(5).map(|(_, caption)| bag(caption)).collect();
        let scores: Vec<f64> =
            questions.iter().map(|(image, caption)| f64::from(u8::from(truths[*image] == bag(caption)))).collect();
        let found = hard.accuracy(&scores);
        assert_eq!((found.colours, found.attribute), (Some(0.0), Some(1.0)));
    }
}
