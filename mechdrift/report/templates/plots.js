"use strict";
// Draws every figure from the JSON beside it, switches tabs, and fits the figures to paper when the page is printed.
(function () {
  const PAPER = { width: 680, shrink: 0.84 };
  const config = JSON.parse(document.getElementById("plot-config").textContent);
  const plots = [...document.querySelectorAll("[data-plot]")];

  async function drawAll() {
    for (const plot of plots) {
      const { data, layout } = JSON.parse(document.getElementById(plot.dataset.plot).textContent);
      await Plotly.newPlot(plot, data, layout, config);
    }
    document.documentElement.dataset.plots = "drawn";
  }

  const tabs = [...document.querySelectorAll("[role=tab]")];

  function choose(tab) {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("folded", !chosen);
    }
  }

  function step(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = tabs[(tabs.indexOf(event.target) + by + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  }

  for (const tab of tabs) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", step);
  }
  if (tabs.length) choose(tabs[0]);

  const heights = new Map(plots.map((plot) => [plot, parseFloat(plot.style.height)]));

  function resize(plot, width, height) {
    plot.style.height = `${height}px`;
    Plotly.relayout(plot, { width, height, autosize: width === null });
  }

  window.addEventListener("beforeprint", () => heights.forEach((height, plot) => resize(plot, PAPER.width, height * PAPER.shrink)));
  window.addEventListener("afterprint", () => heights.forEach((height, plot) => resize(plot, null, height)));

  drawAll();
})();
