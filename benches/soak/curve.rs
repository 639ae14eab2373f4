//! A curve as a small SVG.

use std::fmt::Write as _;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 240;

/// The memory in KiB over the seconds.
pub fn svg(points: &[(u64, u64)]) -> String {
    let last = points.last().map_or(1, |(at, _)| *at).max(1);
    let most = points
        .iter()
        .map(|(_, used)| *used)
        .max()
        .unwrap_or(1)
        .max(1);
    let mut line = String::new();
    for (at, used) in points {
        let _ = write!(
            line,
            "{},{} ",
            at * WIDTH / last,
            HEIGHT - used * HEIGHT / most
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -20 {WIDTH} {}\" font-family=\"sans-serif\" font-size=\"12\">\
         <polyline fill=\"none\" stroke=\"#1b62c4\" stroke-width=\"2\" points=\"{line}\"/>\
         <text x=\"4\" y=\"-6\">{} MiB after {last} s at most</text></svg>\n",
        HEIGHT + 20,
        most / 1024
    )
}
