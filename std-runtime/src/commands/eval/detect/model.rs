//! A detector over annotated images: what it has found, layer by layer, and the objects in the images.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::super::Error;
use crate::config::Layers;
use crate::data::dataset::Dataset as _;
use crate::detect::boxes::{Annotation, Detection};
use crate::detect::coco::Category;
use crate::detect::found::{Found, in_pixels};
use crate::say;
use crate::stop::Stop;
use crate::train::detection::{DetectRunConfig, worlds};
use crate::train::folder::CONFIG_FILE;
use crate::vision::boxes::config::BoxDataConfig;
use crate::vision::boxes::list::{BoxList, shown};
use crate::vision::boxes::open::{Boxes, Part};
use crate::vision::detect::{Detector, Framed, Predicted};
use crate::vision::image::read::read;
use crate::vision::shapes::{SHAPES, ShapesWorld};

/// What is evaluated.
pub(super) enum Images {
    /// Files.
    List(BoxList),
    /// The generated world of shapes.
    World(ShapesWorld),
}

/// An image that was evaluated.
pub(super) struct Evaluated {
    /// Its id.
    pub(super) id: i64,
    /// Its name, if it is a file.
    pub(super) file: Option<PathBuf>,
    /// Height and width.
    pub(super) size: [usize; 2],
}

/// The objects of images and what was found in them.
pub(super) struct Evaluation {
    pub(super) categories: Vec<Category>,
    pub(super) images: Vec<Evaluated>,
    pub(super) annotations: Vec<Annotation>,
    /// By layer of the decoder, or of the last one alone.
    pub(super) layers: Vec<Vec<Detection>>,
}

/// Which images of a data set.
pub(super) struct Choice<'c> {
    pub(super) model: &'c Path,
    pub(super) data: Option<&'c Path>,
    pub(super) images: Option<&'c Path>,
    /// `None`: the part that is held out, or all.
    pub(super) split: Option<Part>,
    pub(super) all: bool,
    pub(super) val_fraction: f64,
    pub(super) limit: Option<usize>,
}

impl Images {
    /// The images of a choice. Without data: those that the run of the model has held out.
    pub(super) fn choose(choice: &Choice<'_>) -> Result<Self, Error> {
        let (path, images, val_fraction) = match choice.data {
            Some(data) => (data.to_owned(), choice.images.map(Path::to_path_buf), choice.val_fraction),
            None => {
                let config = run_of(choice.model)?;
                match config.data.path.clone() {
                    Some(data) => (data, config.data.images.clone(), config.data.val_fraction),
                    None => return Self::of_world(&config, choice),
                }
            }
        };
        let config = BoxDataConfig { val_fraction, ..BoxDataConfig::default() };
        let boxes = Boxes::open(&path, images.as_deref())?;
        let mut list = match choice.split {
            Some(part @ (Part::Train | Part::Val)) if !choice.all => {
                let (train, val) = boxes.splits(&config)?;
                let none = || Error::usage(format!("{}: nothing is held out: choose another --split", path.display()));
                if part == Part::Train { train } else { val.ok_or_else(none)? }
            }
            Some(part) => {
                let none = || {
                    let (shown, word) = (path.display(), part.names().first().copied().unwrap_or_default());
                    let has =
                        Part::ALL.into_iter().filter(|part| boxes.has(*part)).filter_map(|part| part.names().first().copied());
                    let has = has.collect::<Vec<_>>().join(", ");
                    Error::usage(format!(
                        "--split {word}: {shown} has the parts {has} alone: choose one of these, or give the annotations of the part with --data"
                    ))
                };
                boxes.list(part)?.ok_or_else(none)?
            }
            None if boxes.has(Part::Val) => boxes.list(Part::Val)?.ok_or_else(|| Error::data("no images"))?,
            None if choice.data.is_none() => {
                boxes.splits(&config)?.1.ok_or_else(|| Error::usage("the run has held nothing out: give --data"))?
            }
            None => boxes.list(Part::Train)?.ok_or_else(|| Error::data("no images"))?,
        };
        if let Some(limit) = choice.limit {
            list.images.truncate(limit);
            list.annotations.retain(|object| (object.image as usize) < limit);
        }
        Ok(Self::List(list))
    }

    /// The world, if they are of it.
    pub(super) fn world(&self) -> Option<ShapesWorld> {
        match self {
            Self::World(world) => Some(*world),
            Self::List(_) => None,
        }
    }

    fn of_world(config: &DetectRunConfig, choice: &Choice<'_>) -> Result<Self, Error> {
        let (train, held_out) = worlds(config);
        let world = match choice.split {
            None | Some(Part::Val) => {
                held_out.ok_or_else(|| Error::usage("the run has held nothing out: choose --split train"))?
            }
            Some(Part::Train) => train,
            Some(Part::Test) => {
                return Err(Error::usage(
                    "--split test: the world of shapes has no test images: choose --split val or train, or give annotated images with --data",
                ));
            }
        };
        let len = choice.limit.map_or(world.len, |limit| world.len.min(limit as u64));
        Ok(Self::World(ShapesWorld { len, ..world }))
    }
}

/// The configuration of the run that made a model.
fn run_of(model: &Path) -> Result<DetectRunConfig, Error> {
    let files = [Some(model), model.parent()].into_iter().flatten().map(|folder| folder.join(CONFIG_FILE));
    let Some(file) = files.into_iter().find(|file| file.is_file()) else {
        let model = model.display();
        return Err(Error::usage(format!(
            "{model}: has no {CONFIG_FILE} that tells what was held out: give annotated images with --data"
        )));
    };
    let mut layers = Layers::<DetectRunConfig>::new();
    layers.file(&file)?;
    Ok(layers.finish()?)
}

impl Evaluation {
    /// Runs a detector over images.
    pub(super) fn of(model: &mut Detector, images: Images, skip_bad: bool, stop: &Stop) -> Result<Self, Error> {
        match images {
            Images::List(list) => Self::of_list(model, list, skip_bad, stop),
            Images::World(world) => Self::of_world(model, world, stop),
        }
    }

    fn new(categories: Vec<Category>, layers: usize) -> Self {
        Self { categories, images: Vec::new(), annotations: Vec::new(), layers: vec![Vec::new(); layers] }
    }

    /// Adds what was found in the next image; classes are those of the model, whose categories `of_class` tells.
    fn add(&mut self, image: Evaluated, found: &Predicted, of_class: &[Option<u32>]) {
        let number = self.images.len() as u32;
        for (layer, to) in self.layers.iter_mut().enumerate() {
            let detection = |Found { class, score, bbox }: Found| {
                let category = of_class.get(class as usize).copied().flatten()?;
                Some(Detection { image: number, category, bbox, score })
            };
            to.extend(found.layer(layer, image.size).into_iter().filter_map(detection));
        }
        self.images.push(image);
    }

    fn of_list(model: &mut Detector, mut list: BoxList, skip_bad: bool, stop: &Stop) -> Result<Self, Error> {
        let of_class = categories_of(&model.labels, &list.categories)?;
        let mut evaluation = Self::new(std::mem::take(&mut list.categories), model.layers());
        let mut numbers = vec![None; list.images.len()];
        for (chunk, images) in list.images.chunks(model.batch()).enumerate() {
            stop.check()?;
            let decoded: Vec<_> = images.par_iter().map(|image| read(&image.path)).collect();
            let mut good = Vec::new();
            for (at, (listed, image)) in images.iter().zip(decoded).enumerate() {
                match image {
                    Ok(image) => good.push((chunk * model.batch() + at, listed, image)),
                    Err(error) if skip_bad => say::line(&format!("warning: left out: {error}")),
                    Err(error) => return Err(error.into()),
                }
            }
            let decoded: Vec<_> = good.iter().map(|(.., image)| image.clone()).collect();
            for ((number, listed, image), found) in good.iter().zip(model.find(&decoded)?) {
                let size = image.size();
                if listed.size.is_some_and(|annotated| annotated != size) {
                    let (name, [h, w], [high, wide]) = (shown(&listed.path), size, listed.size.unwrap_or_default());
                    say::line(&format!(
                        "warning: {name}: {w} x {h} pixels, annotated {wide} x {high}; samara data check says more"
                    ));
                }
                numbers.get_mut(*number).into_iter().for_each(|to| *to = Some((evaluation.images.len() as u32, size)));
                let image = Evaluated { id: listed.id, file: Some(listed.path.clone()), size };
                evaluation.add(image, &found, &of_class);
            }
        }
        let number = |image: usize| numbers.get(image).copied().flatten();
        let objects = list.in_pixels(|image| number(image).map(|(_, size)| size)).into_iter();
        let kept = objects.filter_map(|object| Some(Annotation { image: number(object.image as usize)?.0, ..object }));
        evaluation.annotations = kept.collect();
        Ok(evaluation)
    }

    fn of_world(model: &mut Detector, world: ShapesWorld, stop: &Stop) -> Result<Self, Error> {
        if model.labels.len() != SHAPES.len() || world.side != model.model.image_size {
            return Err(Error::usage("the model is not one of the world of shapes that its run.toml describes: give --data"));
        }
        let names = SHAPES.iter().enumerate();
        let categories = names.map(|(i, name)| Category { id: i as i64 + 1, name: (*name).to_owned() }).collect();
        let of_class: Vec<Option<u32>> = (0..SHAPES.len() as u32).map(Some).collect();
        let (mut evaluation, size) = (Self::new(categories, model.layers()), [world.side; 2]);
        let rows: Vec<u64> = (0..world.len).collect();
        let mut batch = world.batch(model.batch());
        for rows in rows.chunks(model.batch()) {
            stop.check()?;
            world.fill(rows, &mut batch)?;
            let len = rows.len() * world.side * world.side * 3;
            let pixels = batch.reals("pixel_values").get(..len).unwrap_or_default();
            let found = model.find_in(&Framed { pixels, frame: size, mask: None })?;
            let most = batch.ints("class_labels").len() / batch.rows().max(1);
            let objects = batch.ints("class_labels").chunks(most.max(1)).zip(batch.reals("boxes").chunks((4 * most).max(1)));
            for ((&row, found), (classes, boxes)) in rows.iter().zip(found).zip(objects) {
                let image = evaluation.images.len() as u32;
                for (&class, place) in classes.iter().zip(boxes.chunks(4)).filter(|(class, _)| **class >= 0) {
                    let (id, bbox) = (evaluation.annotations.len() as i64 + 1, in_pixels(place, size.map(|side| side as f64)));
                    let (category, area) = (class.unsigned_abs(), bbox.area());
                    evaluation.annotations.push(Annotation { id, image, category, bbox, area, crowd: false });
                }
                let id = (world.first + row) as i64 + 1;
                evaluation.add(Evaluated { id, file: None, size }, &found, &of_class);
            }
        }
        Ok(evaluation)
    }
}

/// The category of every class of a model, by name. Where no name is common, and there are as many, by number.
fn categories_of(labels: &[String], categories: &[Category]) -> Result<Vec<Option<u32>>, Error> {
    let of = |label: &String| categories.iter().position(|category| category.name == *label).map(|at| at as u32);
    let named: Vec<Option<u32>> = labels.iter().map(of).collect();
    if named.iter().any(Option::is_some) {
        return Ok(named);
    }
    let unnamed = labels.iter().all(|label| label.starts_with("LABEL_"));
    if unnamed && labels.len() == categories.len() {
        return Ok((0..labels.len() as u32).map(Some).collect());
    }
    let shown = |names: Vec<&str>| names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    Err(Error::data(format!(
        "no class of the model ({}, …) has the name of a category of the data ({}, …): rename the categories, or the classes in config.json",
        shown(labels.iter().map(String::as_str).collect()),
        shown(categories.iter().map(|category| category.name.as_str()).collect())
    )))
}
