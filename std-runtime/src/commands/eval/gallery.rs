//! Images with captions that an evaluation ranks: those of files, or held-out ones of the generated world that a run was trained on.

use std::path::Path;

use super::super::Error;
use super::super::task_args::table_of;
use crate::config::{Invalid, Layers, tables};
use crate::image_text::data::list::{Captioned, Pair};
use crate::image_text::hard_pairs::HardPairs;
use crate::image_text::world::{CaptionWorld, CaptionsConfig, WorldSplit};
use crate::train::folder::CONFIG_FILE;
use crate::vision::image::Image;
use crate::vision::image::read::read;

tables! {
    /// What of a run's configuration is of its world.
    WorldTables checked by WorldTables::unchecked {
        /// `[captions]`
        captions: CaptionsConfig;
    }
}

impl WorldTables {
    fn unchecked(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Images with captions.
pub(super) enum Gallery {
    /// Those of files.
    Files(Captioned),
    /// The held-out images of a world, each with its caption.
    World(CaptionWorld, Vec<Pair>),
}

impl Gallery {
    /// The world of the run in a model's folder, or in the folder above `best/`.
    pub(super) fn of_run(model: &Path) -> Result<Self, Error> {
        let folder = [Some(model), model.parent()].into_iter().flatten().find(|folder| folder.join(CONFIG_FILE).is_file());
        let shown = model.display();
        let absent = || {
            Error::usage(format!("{shown}: not a run on the generated world of captions; give images with captions: --data PATH"))
        };
        let file = folder.ok_or_else(absent)?.join(CONFIG_FILE);
        let mut run = table_of(&file);
        let has_path = run.get("data").is_some_and(|data| data.get("path").is_some());
        let captions = run.remove("captions").filter(|_| !has_path).ok_or_else(absent)?;
        let table = toml::Table::from_iter([("captions".to_owned(), captions)]);
        let mut layers = Layers::<WorldTables>::new();
        layers.text(&file, &table.to_string())?;
        let config = layers.finish()?.captions;
        if config.val == 0 {
            return Err(Error::usage(format!(
                "{shown}: its run held out nothing (captions.val = 0); give images with captions: --data PATH"
            )));
        }
        let world = CaptionWorld::new(&config);
        let pair = |row: u64| Pair { image: row as usize, caption: world.caption(WorldSplit::Val, row) };
        let pairs = (0..config.val).map(pair).collect();
        Ok(Self::World(world, pairs))
    }

    /// How many images there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Files(pairs) => pairs.images.len(),
            Self::World(_, pairs) => pairs.len(),
        }
    }

    /// An image by number; one of the world has this height and width.
    pub(super) fn image(&self, number: usize, size: [usize; 2]) -> Result<Image, Error> {
        match self {
            Self::Files(pairs) => {
                let path = pairs.images.get(number).ok_or_else(|| Error::failed(format!("no image {number}")))?;
                Ok(read(path)?)
            }
            Self::World(world, _) => Ok(world.image(size, WorldSplit::Val, number as u64)),
        }
    }

    /// The captions with the numbers of their images.
    pub(super) fn pairs(&self) -> &[Pair] {
        match self {
            Self::Files(pairs) => &pairs.pairs,
            Self::World(_, pairs) => pairs,
        }
    }

    /// True and false captions, where the world knows them.
    pub(super) fn hard_pairs(&self) -> Option<HardPairs> {
        match self {
            Self::Files(_) => None,
            Self::World(world, pairs) => Some(HardPairs::of(world, pairs.len() as u64)),
        }
    }
}
