use samara::config::*;
fn main() {
    let mut l = Layers::new();
    l.preset("nanogpt-char-cpu").unwrap();
    for a in std::env::args().skip(2) { l.set(&a).unwrap(); }
    let config = l.finish().unwrap();
    let out = std::env::args().nth(1).unwrap().into();
    match samara::train::run(&samara::train::TrainRequest { config, out, resume: false, quiet: false }) {
        Ok(o) => println!("{o:?}"),
        Err(e) => println!("error: {e}"),
    }
}
