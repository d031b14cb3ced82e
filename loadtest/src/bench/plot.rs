//! Drawings of figures, as SVG.
//!
//! Owns: axes, lines, and a key. Refuses to know: what the figures mean.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by everybody, colour-blind or not (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

/// Along one side.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// What stands along it, with the unit.
    pub label: &'static str,
    /// By powers instead of evenly.
    pub logarithmic: bool,
}

/// One line of a drawing.
#[derive(Debug, Clone)]
pub struct Curve {
    /// For the key.
    pub name: String,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// A drawing.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Its file's name, without `.svg`.
    pub file: &'static str,
    /// Above it.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn.
    pub curves: Vec<Curve>,
}

/// From values to places.
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = match axis.logarithmic {
            true => (low.max(1e-9).log10().floor(), high.max(1e-8).log10().ceil()),
            false => (0.0, high.max(1e-9) * 1.05),
        };
        Self { logarithmic: axis.logarithmic, low, high: high.max(low + 1e-9), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1e-9).log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values along it.
    fn marks(&self) -> Vec<f64> {
        if self.logarithmic {
            return (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect();
        }
        let rough = self.high / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..).map(|mark| f64::from(mark) * step).take_while(|mark| *mark <= self.high).collect()
    }
}

impl Plot {
    /// The drawing.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Scale::new(self.x, points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Scale::new(self.y, points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
            escaped(&self.title)
        );
        let (bottom, right, middle) = (HEIGHT - BOTTOM, WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2.0);
        for mark in x.marks() {
            let at = x.place(mark);
            line(&mut svg, (at, TOP), (at, bottom));
            let below = bottom + 16.0;
            add(&mut svg, &format!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", short(mark)));
        }
        for mark in y.marks() {
            let at = y.place(mark);
            line(&mut svg, (LEFT, at), (right, at));
            let (before, down) = (LEFT - 6.0, at + 4.0);
            add(&mut svg, &format!("<text x=\"{before}\" y=\"{down:.1}\" text-anchor=\"end\">{}</text>", short(mark)));
        }
        let (centre, low) = (f64::midpoint(LEFT, right), HEIGHT - 12.0);
        add(
            &mut svg,
            &format!("<text x=\"{centre}\" y=\"{low}\" text-anchor=\"middle\">{}</text>", escaped(self.x.label)),
        );
        add(
            &mut svg,
            &format!(
                "<text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                escaped(self.y.label)
            ),
        );
        for (number, (curve, colour)) in self.curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let places = curve.points.iter().fold(String::new(), |mut places, (across, up)| {
                // Writing to a string never fails.
                let _ = write!(places, "{:.1},{:.1} ", x.place(*across), y.place(*up));
                places
            });
            add(
                &mut svg,
                &format!("<polyline points=\"{places}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"),
            );
            let (beside, down) = (right + 12.0, TOP + 14.0 + 18.0 * number as f64);
            add(
                &mut svg,
                &format!("<text x=\"{beside}\" y=\"{down}\" fill=\"{colour}\">{}</text>", escaped(&curve.name)),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((left, top), (right, bottom)) = (from, to);
    add(svg, &format!("<path d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}\" stroke=\"#ddd\"/>"));
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

fn short(value: f64) -> String {
    match value {
        1_000_000.0.. => format!("{} M", value / 1e6),
        1_000.0.. => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_lies_within_the_drawing() {
        let curve = Curve { name: "a < b".to_owned(), points: vec![(1.0, 3.0), (1_000.0, 900.0)] };
        for logarithmic in [false, true] {
            let axis = Axis { label: "of things", logarithmic };
            let plot = Plot { file: "x", title: "T".to_owned(), x: axis, y: axis, curves: vec![curve.clone()] };
            let svg = plot.svg();
            assert!(svg.contains("a &lt; b"), "{svg}");
            let (_, places) = svg.split_once("points=\"").unwrap();
            for place in places.split('"').next().unwrap().split([',', ' ']).filter(|place| !place.is_empty()) {
                assert!((0.0..=WIDTH).contains(&place.parse::<f64>().unwrap()), "{svg}");
            }
        }
    }

    #[test]
    fn marks_are_round() {
        let scale = Scale { logarithmic: false, low: 0.0, high: 9.0, from: 0.0, to: 1.0 };
        assert_eq!(scale.marks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
    }
}
