"use strict";
// Draws every chart of the page, in the colours of the reader's scheme, and again when that changes.
const specs = JSON.parse(document.getElementById("charts").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function config() {
  const text = dark.matches ? "#e6e8ea" : "#1c2024", line = dark.matches ? "#3a4046" : "#d9dde1";
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { labelColor: text, titleColor: text, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    text: { color: text },
    legend: { labelColor: text, titleColor: text, orient: "top", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
  };
}
function draw() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const options = { actions: false, renderer: "svg", config: config(), tooltip: { theme: dark.matches ? "dark" : "light" } };
    vegaEmbed(place, specs[Number(place.dataset.chart)], options).catch((error) => { place.textContent = String(error); });
  }
}
dark.addEventListener("change", draw);
draw();
