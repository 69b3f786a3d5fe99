//! `samara predict`: the classes of images, or the objects in them.

mod args;
mod boxes;
mod classes;
mod drawing;
mod texts;
mod zero_shot;

pub(crate) use self::args::Args;
pub(super) use self::args::template;
use super::{Command, Console, Error};
use crate::image_text::folder::DualFolder;
use crate::image_text::vilt_folder::ViltFolder;
use crate::vision::detector::DetectorFolder;

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        if DetectorFolder::read(&self.model)?.is_some() {
            boxes::run(self)
        } else if DualFolder::read(&self.model)?.is_some() {
            zero_shot::run(self)
        } else if ViltFolder::read(&self.model)?.is_some() {
            texts::run(self)
        } else {
            classes::run(self)
        }
    }
}
