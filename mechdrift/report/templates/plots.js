"use strict";
// Draws the figures from the JSON beside them: those in view at once, the others when the browser is idle. Before the
// first it runs plotly.js, which lies in the page as text, so that the page opens without that second. Puts a list
// in the place of plotly's menus, which no keyboard reaches; gives figures dark colours where a reader prefers them;
// switches tabs; and fits the figures to paper when the page is printed.
(function () {
  const PAPER = { width: 680, shrink: 0.84 };
  const MENU_HEIGHT = 38;
  const config = JSON.parse(document.getElementById("plot-config").textContent);
  const darkOf = new Map(Object.entries(JSON.parse(document.getElementById("plot-dark").textContent)));
  const night = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll("[data-plot]")];
  const waiting = new Set(plots);
  const chosen = new Map(); // what a reader chose in a figure's list
  const idle = window.requestIdleCallback || ((act) => setTimeout(act, 1));

  function recoloured(value) {
    if (typeof value === "string") return darkOf.get(value) ?? value;
    if (Array.isArray(value)) return value.map(recoloured);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, recoloured(entry)]));
  }

  function figureOf(plot, dark) {
    const figure = JSON.parse(document.getElementById(plot.dataset.plot).textContent);
    return dark ? recoloured(figure) : figure;
  }

  function runPlotly() {
    const text = document.getElementById("plotly");
    if (!text) return; // it ran already, or is a file of its own
    const script = document.createElement("script");
    script.textContent = text.textContent;
    text.replaceWith(script); // runs it before the next line
  }

  function listFor(plot, menu) {
    const label = document.createElement("label");
    const list = document.createElement("select");
    label.className = "choice";
    label.append(`${menu.name} `, list);
    menu.buttons.forEach((button, place) => list.add(new Option(button.label, place, false, place === menu.active)));
    list.addEventListener("change", () => {
      chosen.set(plot, Number(list.value));
      Plotly.restyle(plot, ...menu.buttons[list.value].args);
    });
    plot.closest("figure").prepend(label);
  }

  function draw(plot, dark = night.matches) {
    runPlotly();
    const { data, layout } = figureOf(plot, dark);
    const menu = layout.updatemenus && layout.updatemenus[0];
    if (menu) {
      delete layout.updatemenus;
      layout.margin.t -= MENU_HEIGHT;
      if (waiting.has(plot)) listFor(plot, menu);
      const [what, values] = menu.buttons[chosen.get(plot) ?? menu.active].args;
      data.forEach((trace, place) => (trace[what] = values[place]));
    }
    (waiting.has(plot) ? Plotly.newPlot : Plotly.react)(plot, data, layout, config);
    waiting.delete(plot);
    if (!waiting.size) document.documentElement.dataset.plots = "drawn";
  }

  function drawWaiting() {
    const [next] = waiting;
    if (next) draw(next);
    if (waiting.size) idle(drawWaiting);
  }

  const tabs = [...document.querySelectorAll("[role=tab]")];

  function choose(tab) {
    for (const other of tabs) {
      const isChosen = other === tab;
      other.setAttribute("aria-selected", String(isChosen));
      other.tabIndex = isChosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("folded", !isChosen);
    }
  }

  function step(event) {
    const at = tabs.indexOf(event.target);
    const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    const next = tabs[(places[event.key] + tabs.length) % tabs.length];
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

  function toPaper() {
    for (const plot of plots) {
      if (night.matches || waiting.has(plot)) draw(plot, false);
      resize(plot, PAPER.width, heights.get(plot) * PAPER.shrink);
    }
  }

  function toScreen() {
    for (const plot of plots) {
      if (night.matches) draw(plot);
      resize(plot, null, heights.get(plot));
    }
  }

  window.addEventListener("beforeprint", toPaper);
  window.addEventListener("afterprint", toScreen);
  night.addEventListener("change", () => plots.filter((plot) => !waiting.has(plot)).forEach((plot) => draw(plot)));

  function reachScrolled() {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  window.addEventListener("resize", reachScrolled);
  document.addEventListener("toggle", reachScrolled, true);
  reachScrolled();

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && waiting.has(target)) draw(target);
      if (isIntersecting) seen.unobserve(target);
    }
  });
  plots.forEach((plot) => seen.observe(plot));
  if (plots.length) window.addEventListener("load", () => idle(drawWaiting));
  else document.documentElement.dataset.plots = "drawn";
})();
