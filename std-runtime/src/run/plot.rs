//! Curves of a run as SVG files.

use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

use super::durable;
use super::metrics::{Metrics, key_of};

const SIZE_PX: (u32, u32) = (960, 540);
const TRAIN: RGBColor = RGBColor(31, 105, 171);
const VALIDATION: RGBColor = RGBColor(217, 95, 2);
const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(228, 228, 228);
/// A curve with more points is averaged down to this many.
const MOST_POINTS: usize = 1000;

/// Colours of several runs in one picture.
const RUNS: [RGBColor; 8] = [
    TRAIN,
    VALIDATION,
    RGBColor(27, 137, 81),
    RGBColor(158, 74, 160),
    RGBColor(190, 40, 60),
    RGBColor(120, 100, 20),
    RGBColor(20, 150, 170),
    RGBColor(90, 90, 90),
];

/// Two scalars of a training, of which one is drawn against the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The file of the picture in a run folder.
    pub file: &'static str,
    /// The name and the unit of what lies to the right.
    pub across: (&'static str, &'static str),
    /// The name and the unit of what lies upward.
    pub upward: (&'static str, &'static str),
}

/// What the completions of a policy are worth against how far it is from its reference.
pub const SCORES_AND_KL: Pair =
    Pair { file: "reward_against_kl.svg", across: ("objective/kl", "nats per completion"), upward: ("objective/scores", "") };

/// A line of a plot: (step, value), its style, and its legend.
struct Line {
    points: Vec<(f64, f64)>,
    style: ShapeStyle,
    point_size: u32,
    label: Option<String>,
}

/// Plots `train_NAME` and `val_NAME` over steps and writes the SVG atomically. Positive values, such as losses, get a logarithmic axis, on which the
/// late, slow part of training stays readable. A faint line shows the values of single steps, a strong one their moving average.
///
/// # Errors
/// The operating system refuses.
pub fn write_curve(path: &Path, name: &str, unit: &str, records: &[Metrics]) -> io::Result<()> {
    durable::write(path, curve(name, unit, records)?.as_bytes())
}

/// The plot of [`write_curve`] as SVG text.
///
/// # Errors
/// The plot cannot be drawn.
pub fn curve(name: &str, unit: &str, records: &[Metrics]) -> io::Result<String> {
    let [train, validation] = ["train", "val"].map(|part| points(records, &key_of(part, name)));
    let train = averaged(&train);
    let mut lines = vec![Line { points: train.clone(), style: TRAIN.mix(0.3).stroke_width(1), point_size: 0, label: None }];
    if !train.is_empty() {
        let label = Some(format!("training: {:.3} at last", recent_mean(&train)));
        lines.push(Line { points: moving_average(&train), style: TRAIN.stroke_width(2), point_size: 0, label });
    }
    // Of a loss the smallest value is the best one; of other scalars the name does not say which is.
    let (found, which) = if name.ends_with("loss") {
        (validation.iter().min_by(|a, b| a.1.total_cmp(&b.1)), "best")
    } else {
        (validation.last(), "last")
    };
    if let Some(&(step, value)) = found {
        let label = Some(format!("validation: {value:.3} at {which}, step {step:.0}"));
        lines.push(Line { points: validation, style: VALIDATION.stroke_width(2), point_size: 3, label });
    }
    picture(&Axes::of_steps(name, unit), &lines)
}

/// Draws one scalar of a run against another and writes the picture durably: a point for every step, joined in the order of steps.
///
/// # Errors
/// The operating system refuses.
pub fn write_against(path: &Path, pair: &Pair, records: &[Metrics]) -> io::Result<()> {
    durable::write(path, against(pair, &[("", records)])?.as_bytes())
}

/// The picture of [`write_against`] as SVG text, for several runs beside each other: their names and records.
///
/// # Errors
/// The picture cannot be drawn.
pub fn against(pair: &Pair, runs: &[(&str, &[Metrics])]) -> io::Result<String> {
    let ((across, unit_across), (upward, unit_upward)) = (pair.across, pair.upward);
    let line = |((run, records), colour): (&(&str, &[Metrics]), &RGBColor)| {
        let both = |m: &Metrics| {
            let [x, y] = [across, upward].map(|name| m.get(&key_of("train", name)).filter(|value| value.is_finite()));
            Some((x?, y?))
        };
        let points: Vec<(f64, f64)> = averaged(&records.iter().filter_map(both).collect::<Vec<_>>());
        let &(x, y) = points.last()?;
        let name = if run.is_empty() { String::new() } else { format!("{run}: ") };
        let label = Some(format!("{name}{} at {} at last", label(y), label(x)));
        Some(Line { points, style: colour.stroke_width(1), point_size: 3, label })
    };
    let lines: Vec<Line> = runs.iter().zip(RUNS.iter().cycle()).filter_map(line).collect();
    let axes = Axes {
        caption: &format!("{upward} against {across}"),
        across: with_unit(across, unit_across),
        upward: with_unit(upward, unit_upward),
        holds: (f64::INFINITY, 1e-6),
        mark: label,
    };
    picture(&axes, &lines)
}

/// One key of `metrics.jsonl` for several runs in one plot, as SVG text: `runs` are their names and records.
///
/// # Errors
/// The plot cannot be drawn.
pub fn overlay(key: &str, unit: &str, runs: &[(&str, &[Metrics])]) -> io::Result<String> {
    let line = |((run, records), colour): (&(&str, &[Metrics]), &RGBColor)| {
        let single = averaged(&points(records, key));
        let point_size = if single.len() < 50 { 2 } else { 0 };
        let label = (!single.is_empty()).then(|| format!("{run}: {} at last", label(recent_mean(&single))))?;
        Some(Line { points: moving_average(&single), style: colour.stroke_width(2), point_size, label: Some(label) })
    };
    let lines: Vec<Line> = runs.iter().zip(RUNS.iter().cycle()).filter_map(line).collect();
    picture(&Axes::of_steps(key, unit), &lines)
}

/// What stands at both axes of a picture and above it.
struct Axes<'a> {
    caption: &'a str,
    across: String,
    upward: String,
    /// A number that the axis across holds, and the least distance between its ends.
    holds: (f64, f64),
    /// A number at the axis across.
    mark: fn(f64) -> String,
}

impl<'a> Axes<'a> {
    /// A scalar over steps.
    fn of_steps(name: &'a str, unit: &str) -> Self {
        let (across, upward) = ("step".to_owned(), with_unit(name, unit));
        Self { caption: name, across, upward, holds: (1.0, 10.0), mark: |step| format!("{step:.0}") }
    }
}

/// A name with its unit, if it has one.
fn with_unit(name: &str, unit: &str) -> String {
    if unit.is_empty() { name.to_owned() } else { format!("{name} ({unit})") }
}

/// Lines as SVG text.
fn picture(axes: &Axes<'_>, lines: &[Line]) -> io::Result<String> {
    let mut svg = String::new();
    draw(&mut svg, axes, lines).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(svg)
}

#[allow(clippy::too_many_lines, reason = "the parts of a plot in their order")]
fn draw(svg: &mut String, axes: &Axes<'_>, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let (held, span) = axes.holds;
    let first = all().map(|p| p.0).fold(f64::INFINITY, f64::min).min(held);
    let first = if first.is_finite() { first } else { 0.0 };
    let last = all().map(|p| p.0).fold(first + span, f64::max);
    let values = ValueAxis::around(all().map(|p| p.1));

    let area = SVGBackend::with_string(svg, SIZE_PX).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.caption, ("sans-serif", 20).into_font().color(&INK))
        .margin(16)
        .margin_right(36)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(first..last, values)?;
    chart
        .configure_mesh()
        .x_desc(&axes.across)
        .y_desc(&axes.upward)
        .x_labels(9)
        .x_label_formatter(&|x| (axes.mark)(*x))
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .axis_style(INK.mix(0.6))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for Line { points, style, point_size, label } in lines {
        let series = chart.draw_series(LineSeries::new(points.iter().copied(), *style).point_size(*point_size))?;
        if let Some(label) = label {
            let style = *style;
            series.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(12)
        .legend_area_size(30)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(("sans-serif", 15).into_font().color(&INK))
        .draw()?;
    area.present()?;
    Ok(())
}

/// (step, value) of the records that have a finite one.
fn points(records: &[Metrics], key: &str) -> Vec<(f64, f64)> {
    records.iter().filter_map(|m| Some((m.step as f64, m.get(key).filter(|value| value.is_finite())?))).collect()
}

/// At most [`MOST_POINTS`] points, each the mean of equally many neighbours.
fn averaged(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let neighbours = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(neighbours).map(mean).collect()
}

/// How many points a moving average takes in: a fortieth of the curve.
fn window(points: &[(f64, f64)]) -> usize {
    points.len() / 40 + 1
}

/// Mean loss of the last points.
fn recent_mean(points: &[(f64, f64)]) -> f64 {
    let recent = points.get(points.len() - window(points).min(points.len())..).unwrap_or_default();
    recent.iter().map(|p| p.1).sum::<f64>() / recent.len().max(1) as f64
}

/// Centred moving average, which does not lag behind a falling curve; the window shrinks towards both ends.
fn moving_average(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = window(points) / 2;
    let average = |(i, &(step, _)): (usize, &(f64, f64))| {
        let reach = reach.min(i).min(points.len() - 1 - i);
        let near = points.get(i - reach..=i + reach).unwrap_or_default();
        (step, near.iter().map(|p| p.1).sum::<f64>() / near.len().max(1) as f64)
    };
    points.iter().enumerate().map(average).collect()
}

/// An axis with ticks at round numbers, also where a decade is too coarse: logarithmic when all its values are positive.
struct ValueAxis {
    low: f64,
    high: f64,
}

impl ValueAxis {
    /// The range of the values with a margin.
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self { low: 1.0, high: 10.0 };
        }
        if low <= 0.0 {
            let room = ((high - low) * 0.05).clamp(1e-300, f64::MAX / 4.0).max(high.abs().max(low.abs()) * 1e-3);
            return Self { low: (low - room).max(f64::MIN), high: (high + room).min(f64::MAX) };
        }
        let room = ((high.ln() - low.ln()) * 0.05).max(0.02).exp();
        Self { low: (low / room).max(f64::MIN_POSITIVE), high: (high * room).min(f64::MAX) }
    }

    /// The position of a value between both ends, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.low > 0.0 {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

impl Ranged for ValueAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first + (self.share(*value) * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        marks(self.low, self.high)
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for ValueAxis {
    fn format_ext(&self, value: &f64) -> String {
        label(*value)
    }
}

/// Round numbers between `low` and `high`: the finest set that is not crowded.
fn marks(low: f64, high: f64) -> Vec<f64> {
    const MOST: usize = 10;
    let between = |x: &f64| (low..=high).contains(x);
    // Equal distances suit a narrow range, round mantissas a range of up to a few decades, powers of ten the rest.
    let linear = |step: f64| {
        let first = (low / step).ceil();
        let count = ((high / step).floor() - first).clamp(0.0, 1e3) as u32;
        (0..=count).map(|i| (first + f64::from(i)) * step).filter(between).collect::<Vec<_>>()
    };
    if low <= 0.0 {
        let decade = 10_f64.powf((high - low).log10().floor());
        let fitting =
            [0.1, 0.2, 0.5, 1.0].into_iter().map(|step| linear(step * decade)).find(|set| (2..=MOST).contains(&set.len()));
        return fitting.unwrap_or_else(|| vec![low, high]);
    }
    let decades = |mantissas: &[f64]| {
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        powers.flat_map(|p| mantissas.iter().map(move |m| m * 10_f64.powi(p))).filter(between).collect::<Vec<_>>()
    };
    let decade = 10_f64.powf((high - low).log10().floor());
    let narrow = || [0.1, 0.2, 0.5, 1.0].into_iter().map(|step| linear(step * decade));
    let wide = || [&[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0][..], &[1.0, 2.0, 5.0], &[1.0]].into_iter().map(decades);
    let fitting = |mut sets: Box<dyn Iterator<Item = Vec<f64>> + '_>| sets.find(|set| (2..=MOST).contains(&set.len()));
    let sets =
        if high / low < 2.5 { fitting(Box::new(narrow().chain(wide()))) } else { fitting(Box::new(wide().chain(narrow()))) };
    sets.unwrap_or_else(|| vec![low, high])
}

/// A value with a number of digits that suits its magnitude.
pub(crate) fn label(value: f64) -> String {
    let text = match value {
        0.0 => return "0".to_owned(),
        x if (0.01..1e4).contains(&x.abs()) => format!("{x:.3}"),
        x => return format!("{x:.1e}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, train: f64, validation: Option<f64>) -> Metrics {
        let values = [("train_loss", Some(train)), ("val_loss", validation)];
        Metrics { step, tokens: 0, values: values.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    fn run(steps: u64) -> Vec<Metrics> {
        let of_step = |step: u64| {
            let loss = 1.4 + 2.8 * (-(step as f64) / 300.0).exp();
            let noise = 0.1 * (step as f64 * 12.9898).sin();
            record(step, loss + noise, step.is_multiple_of(250).then_some(loss + 0.15))
        };
        (1..=steps).map(of_step).collect()
    }

    #[test]
    fn has_both_curves_and_says_the_best() {
        let svg = curve("loss", "nats per token", &run(2000)).unwrap();
        for part in ["<svg", "</svg>", "training: 1.4", "validation: 1.55", "at best, step 2000", "loss (nats per token)"] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(svg.len() < 200_000, "{}", svg.len());
        assert!(!curve("kl", "", &run(20)).unwrap().contains("training"));
    }

    #[test]
    fn several_runs_stand_beside_each_other() {
        let [long, short] = [run(2000), run(20)];
        let svg = overlay("train_loss", "nats per token", &[("a<b", &long), ("short", &short), ("empty", &[])]).unwrap();
        for part in ["a&lt;b: 1.4", "short: 4", "train_loss (nats per token)"] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains("empty"));
    }

    #[test]
    fn one_scalar_against_another_and_names_with_a_stroke() {
        let of_step = |i: u64| {
            let values =
                [("objective/kl", 0.1 * i as f64), ("objective/scores", 2.0 - 1.0 / i as f64), ("val_objective/scores", 1.5)];
            Metrics { step: i, tokens: 0, values: values.map(|(name, value)| (name.to_owned(), Some(value))).into() }
        };
        let records: Vec<Metrics> = (1..=40).map(of_step).collect();
        let svg = against(&SCORES_AND_KL, &[("", &records)]).unwrap();
        for part in ["objective/kl (nats per completion)", "objective/scores against objective/kl", "1.975 at 4 at last"] {
            assert!(svg.contains(part), "{part}");
        }
        // A point for every step.
        assert!(svg.matches("<circle").count() >= 40);
        let beside = against(&SCORES_AND_KL, &[("a", &records), ("b", &records[..9]), ("absent", &run(5))]).unwrap();
        assert!(beside.contains("a: 1.975") && beside.contains("b: 1.889") && !beside.contains("absent"));
        assert!(against(&SCORES_AND_KL, &[]).unwrap().contains("</svg>"));
        let svg = curve("objective/scores", "", &records).unwrap();
        assert!(svg.contains("training: 1.9") && svg.contains("validation: 1.500 at last"), "{svg}");
    }

    #[test]
    fn any_records_can_be_drawn() {
        let one = |loss| vec![record(1, loss, None)];
        let signs: Vec<Metrics> = (0..50).map(|i| record(i, f64::from(i as u32) - 25.0, None)).collect();
        let cases = [
            vec![],
            one(2.0),
            one(f64::NAN),
            one(0.0),
            one(-1.0),
            one(1e300),
            one(-1e300),
            one(1e-300),
            one(f64::MAX),
            one(f64::MIN),
            run(20_000),
            signs,
        ];
        for records in cases {
            assert!(curve("loss", "any & <all>", &records).unwrap().contains("any &amp; &lt;all&gt;"));
        }
        curve("loss", "flat", &vec![record(u64::MAX, 3.0, Some(3.0)); 5]).unwrap();
    }

    #[test]
    fn marks_are_round_and_not_crowded() {
        for (low, high) in [(1.4, 4.3), (1.88, 1.95), (3.0, 3.0001), (0.01, 11.0), (1e-9, 1e9), (2.0, 11.0), (0.5, 0.9)] {
            let values = marks(low, high);
            assert!((2..=20).contains(&values.len()), "{low}..{high}: {values:?}");
            assert!(values.iter().all(|v| (low * 0.999..=high * 1.001).contains(v)), "{low}..{high}: {values:?}");
        }
        assert_eq!([1.5, 0.25, 1234.0, 2e-5, -0.5, 0.0].map(label), ["1.5", "0.25", "1234", "2.0e-5", "-0.5", "0"]);
        assert!((2..=20).contains(&marks(-25.0, 25.0).len()));
    }

    #[test]
    fn the_average_does_not_lag() {
        let falling: Vec<(f64, f64)> = (0..400).map(|i| (f64::from(i), 1000.0 - f64::from(i))).collect();
        assert!(moving_average(&falling).iter().zip(&falling).all(|(a, b)| (a.1 - b.1).abs() < 1e-9 && a.0 == b.0));
        assert_eq!(recent_mean(&falling), 606.0); // 601 to 611
        assert_eq!(averaged(&falling).len(), 400);
        assert_eq!(averaged(&vec![(1.0, 1.0); 2500]).len(), 834);
        assert!(moving_average(&[]).is_empty());
    }
}
