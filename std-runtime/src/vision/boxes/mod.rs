//! Images with boxes: COCO's files and YOLO's folders, their faults, stored images of a run, augmented rows.

pub mod augment;
pub mod check;
pub mod coco;
pub mod config;
pub mod list;
pub mod open;
pub mod rows;
pub mod store;
pub mod yaml;
pub mod yolo;
