//! A tracker in the way of SORT (Bewley et al., 2016) in fixed memory: constant-velocity Kalman filters, 1 − IoU as cost, a cost limit, warm starts.
//!
//! Boxes move through a generated scene, cross, hide and are detected with noise; printed is how often an object changes its track, with optimal and with
//! greedy matching.
//!
//! `cargo run --release -p samara-core --example tracker`

use heapless::Vec;
use samara_core::assignment::{Changed, Costs, Error, Fixed, Options, Portable, reassign};
use samara_core::math::rng::{Purpose, Rng};

/// Tracks at most, and detections in a frame.
const TRACKS: usize = 40;
const DETECTIONS: usize = 24;
const OBJECTS: usize = 22;
const FRAMES: usize = 600;
/// Frames that a track lives without a detection.
const PATIENCE: u32 = 8;
/// A pair costs less than this: boxes that share less than a tenth do not belong together.
const LIMIT: f32 = 0.9;

/// Centre, width and height.
type Box = [f32; 4];

/// One coordinate with its velocity: value, velocity, and their covariance.
#[derive(Clone, Copy)]
struct Filter {
    at: f32,
    speed: f32,
    covariance: [f32; 3],
}

impl Filter {
    fn new(at: f32) -> Self {
        Self { at, speed: 0.0, covariance: [4.0, 0.0, 10.0] }
    }

    fn predict(&mut self) {
        let [a, b, c] = self.covariance;
        self.at += self.speed;
        self.covariance = [a + 2.0 * b + c + 0.1, b + c, c + 0.3];
    }

    fn update(&mut self, measured: f32) {
        let [a, b, c] = self.covariance;
        let (gain, turn) = (a / (a + 4.0), b / (a + 4.0));
        let error = measured - self.at;
        self.at += gain * error;
        self.speed += turn * error;
        self.covariance = [a - gain * a, b - gain * b, c - turn * b];
    }
}

#[derive(Clone, Copy)]
struct Track {
    id: u32,
    filters: [Filter; 4],
    missed: u32,
}

impl Track {
    fn at(&self) -> Box {
        self.filters.map(|filter| filter.at)
    }
}

/// The part of their union that two boxes share.
fn overlap(a: Box, b: Box) -> f32 {
    let side = |k: usize| {
        let (low, high) =
            ((a[k] - a[k + 2] / 2.0).max(b[k] - b[k + 2] / 2.0), (a[k] + a[k + 2] / 2.0).min(b[k] + b[k + 2] / 2.0));
        (high - low).max(0.0)
    };
    let shared = side(0) * side(1);
    shared / (a[2] * a[3] + b[2] * b[3] - shared).max(1e-6)
}

/// How detections find their tracks.
trait Matcher {
    /// The detection of each track, from costs (TRACKS, DETECTIONS).
    fn pairs(&mut self, costs: &[f32]) -> Result<[Option<usize>; TRACKS], Error<f32>>;
}

/// The least total cost, from the duals of the last frame.
#[derive(Default)]
struct Optimal(Fixed<TRACKS, DETECTIONS, f32, u16>);

impl Matcher for Optimal {
    fn pairs(&mut self, costs: &[f32]) -> Result<[Option<usize>; TRACKS], Error<f32>> {
        let mut workspace = self.0.workspace(TRACKS, DETECTIONS)?;
        let options = Options { cost_limit: Some(LIMIT), ..Options::default() };
        let costs = Costs::new(costs, TRACKS, DETECTIONS)?;
        let answer = reassign(Portable, costs, Changed::Any, &options, &mut workspace)?;
        Ok(core::array::from_fn(|track| answer.column_of(track)))
    }
}

/// The cheapest pair first.
struct Greedy;

impl Matcher for Greedy {
    fn pairs(&mut self, costs: &[f32]) -> Result<[Option<usize>; TRACKS], Error<f32>> {
        let mut pairs = [None; TRACKS];
        let mut taken = [false; DETECTIONS];
        loop {
            let open = costs
                .iter()
                .enumerate()
                .filter(|&(k, &cost)| cost < LIMIT && pairs[k / DETECTIONS].is_none() && !taken[k % DETECTIONS]);
            let Some((k, _)) = open.min_by(|a, b| a.1.total_cmp(b.1)) else { return Ok(pairs) };
            pairs[k / DETECTIONS] = Some(k % DETECTIONS);
            taken[k % DETECTIONS] = true;
        }
    }
}

/// Objects that bounce between walls.
struct Scene {
    rng: Rng,
    objects: [(Box, [f32; 2]); OBJECTS],
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, Purpose::User, 0);
        let objects = core::array::from_fn(|_| {
            let mut draw = |low: f32, high: f32| low + (high - low) * rng.uniform_f32();
            ([draw(0.0, 300.0), draw(0.0, 300.0), draw(30.0, 50.0), draw(30.0, 50.0)], [draw(-6.0, 6.0), draw(-6.0, 6.0)])
        });
        Self { rng, objects }
    }

    /// Moves all objects; what is detected, each with the number of its object.
    fn step(&mut self) -> Vec<(Box, usize), DETECTIONS> {
        let mut seen = Vec::new();
        for (number, (at, speed)) in self.objects.iter_mut().enumerate() {
            for (at, speed) in at.iter_mut().zip(speed) {
                *at += *speed;
                if !(0.0..300.0).contains(at) {
                    *speed = -*speed;
                }
            }
            let hidden = self.rng.uniform_f32() < 0.08;
            let noise = at.map(|x| x + 2.0 * self.rng.normal_f64() as f32);
            if !hidden {
                // There are no more objects than detections.
                let _ = seen.push((noise, number));
            }
        }
        seen
    }
}

/// How often an object was given to another track than before.
fn switches(seed: u64, matcher: &mut dyn Matcher) -> Result<u32, Error<f32>> {
    let mut scene = Scene::new(seed);
    let mut tracks: [Option<Track>; TRACKS] = [None; TRACKS];
    let mut owners = [None; OBJECTS];
    let (mut next, mut switches) = (0, 0);
    for _ in 0..FRAMES {
        let detections = scene.step();
        let mut costs = [f32::INFINITY; TRACKS * DETECTIONS];
        for (track, costs) in tracks.iter_mut().zip(costs.chunks_exact_mut(DETECTIONS)) {
            let Some(track) = track else { continue };
            track.filters.iter_mut().for_each(Filter::predict);
            for (cost, &(detection, _)) in costs.iter_mut().zip(&detections) {
                *cost = 1.0 - overlap(track.at(), detection);
            }
        }
        let pairs = matcher.pairs(&costs)?;
        let mut own = |object: usize, id: u32| {
            switches += u32::from(owners[object].is_some_and(|before| before != id));
            owners[object] = Some(id);
        };
        let mut used = [false; DETECTIONS];
        for (place, pair) in tracks.iter_mut().zip(pairs) {
            let Some(track) = place else { continue };
            match pair.and_then(|k| detections.get(k).map(|found| (k, *found))) {
                Some((k, (detection, object))) => {
                    track.filters.iter_mut().zip(detection).for_each(|(filter, at)| filter.update(at));
                    (track.missed, used[k]) = (0, true);
                    own(object, track.id);
                }
                None => track.missed += 1,
            }
            if track.missed > PATIENCE {
                *place = None;
            }
        }
        for (_, &(detection, object)) in used.iter().zip(&detections).filter(|(used, _)| !**used) {
            if let Some(place) = tracks.iter_mut().find(|place| place.is_none()) {
                *place = Some(Track { id: next, filters: detection.map(Filter::new), missed: 0 });
                own(object, next);
                next += 1;
            }
        }
    }
    Ok(switches)
}

fn main() -> Result<(), Error<f32>> {
    println!("{OBJECTS} objects, {FRAMES} frames, {} bytes for matching", size_of::<Optimal>());
    println!("seed  switches: optimal  greedy");
    let mut sums = [0, 0];
    for seed in 0..10 {
        let found = [switches(seed, &mut Optimal::default())?, switches(seed, &mut Greedy)?];
        println!("{seed:>4}{:>18}{:>8}", found[0], found[1]);
        sums = [sums[0] + found[0], sums[1] + found[1]];
    }
    println!(" all{:>18}{:>8}", sums[0], sums[1]);
    Ok(())
}
