//! A frame of the live view: curves of a run, the last messages, and the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::series::Series;
use crate::run::plot;

/// Number of message lines.
const SAID_LINES: u16 = 6;
const COLOURS: [Color; 2] = [Color::Cyan, Color::Yellow];

/// Curves that share a panel.
pub(super) struct Panel {
    title: &'static str,
    /// Keys of `metrics.jsonl` with their curves.
    curves: Vec<(String, Series)>,
}

/// Everything that is drawn.
pub(super) struct Picture {
    /// The line of progress.
    pub(super) headline: String,
    /// The largest, then those that share a row.
    panels: [Panel; 4],
}

impl Panel {
    fn new<const N: usize>(title: &'static str, keys: [String; N]) -> Self {
        Self { title, curves: keys.map(|key| (key, Series::default())).into() }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered().title(self.title_line());
        let points = || self.curves.iter().flat_map(|(_, series)| series.points());
        let Some(&(first, _)) = points().min_by(|a, b| a.0.total_cmp(&b.0)) else { return frame.render_widget(block, area) };
        let last = points().map(|p| p.0).fold(first, f64::max);
        let [low, high] = [f64::min, f64::max].map(|pick| points().map(|p| p.1).reduce(pick).unwrap_or_default());
        // An axis without extent has no place for its points.
        let room = if high > low { 0.0 } else { (high.abs() * 0.1).max(1e-12) };
        let (left, right, bottom, top) = (first, last.max(first + 1.0), low - room, high + room);
        let datasets = self.curves.iter().zip(COLOURS).map(|((_, series), colour)| {
            let style = Style::default().fg(colour);
            Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(series.points())
        });
        let x = Axis::default().bounds([left, right]).labels([format!("{left:.0}"), format!("{right:.0}")]);
        let y = Axis::default().bounds([bottom, top]).labels([bottom, f64::midpoint(bottom, top), top].map(plot::label));
        frame.render_widget(Chart::new(datasets.collect()).block(block).x_axis(x).y_axis(y), area);
    }

    /// The title, and in the colour of its curve the newest value of each.
    fn title_line(&self) -> Line<'_> {
        let values = self.curves.iter().zip(COLOURS).filter_map(|((key, series), colour)| {
            Some(Span::styled(format!("{key} {} ", plot::label(series.last()?)), Style::default().fg(colour)))
        });
        [Span::raw(format!(" {} ", self.title))].into_iter().chain(values).collect()
    }
}

impl Picture {
    /// An empty view of a run whose scalar `name` is minimised or maximised.
    pub(super) fn new(name: &'static str) -> Self {
        let panels = [
            Panel::new(name, [format!("train_{name}"), format!("val_{name}")]),
            Panel::new("learning rate", ["lr".to_owned()]),
            Panel::new("gradient norm", ["grad_norm".to_owned()]),
            Panel::new("speed", ["tokens_per_s".to_owned()]),
        ];
        Self { headline: String::new(), panels }
    }

    /// Appends the record of a step; `get` returns the value of a key.
    pub(super) fn record(&mut self, step: u64, get: impl Fn(&str) -> Option<f64>) {
        for (key, series) in self.panels.iter_mut().flat_map(|panel| &mut panel.curves) {
            get(key).into_iter().for_each(|value| series.push(step, value));
        }
    }

    /// Draws everything, with the last messages.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, said: &[String]) {
        let rows = [
            Constraint::Length(1),
            Constraint::Fill(3),
            Constraint::Fill(2),
            Constraint::Length(SAID_LINES),
            Constraint::Length(1),
        ];
        let [headline, large, row, below, keys] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Line::raw(self.headline.as_str()), headline);
        let [first, others @ ..] = &self.panels;
        first.draw(frame, large);
        let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).areas(row);
        others.iter().zip(areas).for_each(|(panel, area)| panel.draw(frame, area));
        let lines: Vec<&str> = said.iter().flat_map(|text| text.lines()).collect();
        let last = lines.iter().rev().take(usize::from(SAID_LINES)).rev();
        frame.render_widget(Paragraph::new(last.map(|line| Line::raw(*line)).collect::<Vec<_>>()), below);
        frame.render_widget(
            Line::raw("q or Ctrl-C: stop and save; a second time: end at once").style(Style::default().fg(Color::DarkGray)),
            keys,
        );
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// The rows of a frame as text.
    fn rows(picture: &Picture, said: &[String], (width, height): (u16, u16)) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| picture.draw(frame, said)).expect("a frame");
        let buffer = terminal.backend().buffer();
        buffer.content().chunks(usize::from(width)).map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
    }

    #[test]
    fn curves_stand_with_their_newest_values_and_axes() {
        let mut picture = Picture::new("loss");
        picture.headline = "step 40/100".to_owned();
        for step in 1..=40_u16 {
            let loss = 4.0 - f64::from(step) / 20.0;
            let get = |key: &str| match key {
                "train_loss" => Some(loss),
                "val_loss" => step.is_multiple_of(20).then_some(loss + 0.25),
                "lr" => Some(1e-3),
                _ => None,
            };
            picture.record(u64::from(step), get);
        }
        let said: Vec<String> = (0..9).map(|i| format!("said {i}\nand more {i}")).collect();
        let rows = rows(&picture, &said, (90, 40));
        let text = rows.join("\n");
        for part in [
            "step 40/100",
            "train_loss 2 ",
            "val_loss 2.25 ",
            "lr 1.0e-3",
            "gradient norm",
            "q or Ctrl-C",
            "and more 8",
            "said 6",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("and more 5"), "{text}");
        // The curve falls from the upper left to the lower right.
        let is_drawn = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
        let column = |row: &String| row.chars().position(is_drawn);
        let drawn: Vec<usize> = rows[1..20].iter().filter_map(column).collect();
        assert!(drawn.len() > 10 && drawn.is_sorted() && drawn[0] < 12 && drawn[drawn.len() - 1] > 50, "{drawn:?}\n{text}");
    }

    #[test]
    fn any_size_and_no_value_can_be_drawn() {
        let mut picture = Picture::new("loss");
        for size in [(1, 1), (3, 2), (20, 5), (80, 24), (300, 3)] {
            rows(&picture, &["said".to_owned()], size);
        }
        picture.record(7, |_| Some(-2.0));
        for size in [(1, 1), (3, 2), (20, 5), (80, 24), (300, 3)] {
            rows(&picture, &[], size);
        }
    }
}
