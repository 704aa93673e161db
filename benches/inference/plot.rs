//! Draws latency against load, as SVG beside the page of results. Never measures.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::support::{process::root, report};

/// From the page.
pub(crate) const LINK: &str = "benchmarks/latency-against-load.svg";
const SIZE: (u32, u32) = (960, 560);
/// Of the curves, in their order; told apart with the colour-blind in mind (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(110, 110, 110),
];

/// What one server does at growing load.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

/// Latencies at one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Writes the picture if the command line says so.
pub(crate) fn write(curves: &[Curve]) -> Result<()> {
    if !report::writes() {
        return Ok(());
    }
    let path = root().join("docs").join(LINK);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut text = String::new();
    // The errors of a drawing borrow from it.
    draw(curves, &mut text).map_err(|error| anyhow!("drawing: {error}"))?;
    text.push('\n');
    Ok(std::fs::write(path, text)?)
}

fn draw(curves: &[Curve], text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    // The page may be dark; the picture is not.
    area.fill(&WHITE)?;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let least = points().map(|point| point.p50_us).fold(f64::INFINITY, f64::min);
    let most = points().map(|point| point.p99_us).fold(0.0, f64::max);
    let loads = points().map(|point| point.per_second);
    let (first, last) =
        loads.fold((f64::INFINITY, 0.0_f64), |(a, b), load| (a.min(load), b.max(load)));
    let mut chart = ChartBuilder::on(&area)
        .caption("MLP as JSON: p50 (solid) and p99 (dashed)", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(
            (first * 0.9..last * 1.1).log_scale(),
            (least * 0.7..most * 1.4).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("requests offered in a second")
        .y_desc("latency")
        .x_label_formatter(&|load| format!("{load:.0}"))
        .y_label_formatter(&|us| latency(*us))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .light_line_style(BLACK.mix(0.05))
        .bold_line_style(BLACK.mix(0.15))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let p50 = curve.points.iter().map(|point| (point.per_second, point.p50_us));
        let p99 = curve.points.iter().map(|point| (point.per_second, point.p99_us));
        let style = colour.stroke_width(2);
        chart.draw_series(DashedLineSeries::new(p99, 6, 4, style))?;
        chart.draw_series(p50.clone().map(|point| Circle::new(point, 3, colour.filled())))?;
        chart
            .draw_series(LineSeries::new(p50, style))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(32)
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

fn latency(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} µs") } else { format!("{:.0} ms", us / 1000.0) }
}
