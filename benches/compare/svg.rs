//! The few shapes that the plots are made of. Writing to a String cannot fail.

use std::fmt::Write;

use crate::target::Target;

/// A picture of a size, on white.
pub(crate) fn opening(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n<style>text \
         {{ font: 12px sans-serif; fill: #222 }} .title {{ font-weight: bold }} .small {{ font-size: 11px; fill: #666 }} .middle {{ \
         font-size: 11px; fill: #666; text-anchor: middle }} .end {{ font-size: 11px; fill: #666; text-anchor: end }}</style>\n<rect \
         width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    )
}

/// What each target is drawn in.
pub(crate) fn colour(target: Target) -> &'static str {
    match target {
        Target::Direct => "#b8b8b8",
        Target::Twemproxy => "#e0a458",
        Target::Envoy => "#b279a2",
        Target::WeftStrict => "#2f6f9f",
        Target::WeftRelaxed => "#7fb3d5",
    }
}

/// `content` with its baseline at `y`; the class says how it looks and what of it is at `x`.
pub(crate) fn text(out: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{escaped}</text>").ok();
}

/// A straight line.
pub(crate) fn line(out: &mut String, from: (f64, f64), to: (f64, f64), stroke: &str) {
    writeln!(out, "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\"/>", from.0, from.1, to.0, to.1).ok();
}

/// A line through `points`, with a dot on each.
pub(crate) fn curve(out: &mut String, points: &[(f64, f64)], stroke: &str, dashed: bool) {
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let dashes = if dashed { " stroke-dasharray=\"5 3\"" } else { "" };
    writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"2\"{dashes}/>", path.join(" ")).ok();
    for (x, y) in points {
        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{stroke}\"/>").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut out = String::new();
        text(&mut out, 0.0, 0.0, "label", "a<b & c");
        assert!(out.contains(">a&lt;b &amp; c<"), "{out}");
    }
}
