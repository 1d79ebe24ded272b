"use strict";
// The page of many runs: chooses and sorts rows, shows the summary of what is chosen, and draws forest plot and scatter.
// Names are only ever set as textContent or as attributes.
(function () {
  const GROUPS = ["route", "family", "size", "parent"];
  const CELLS = ["k", "change", "p", "tau", "i2", "next", "counts", "left"];
  const ROW = 16, LABEL = 300, WIDTH = 460, TEXT = 150, TOP = 74;
  const STYLE = `.forest{font:12px system-ui,sans-serif;fill:var(--ink,#1f2328)}.forest .axis{stroke:var(--line,#b9bfc7)}.forest .grid{stroke:var(--rule,#e4e7eb)}
.forest .range{stroke:var(--quiet,#5b636d);stroke-width:1.4}.forest .worse{stroke:var(--bad,#a8323e);fill:var(--bad,#a8323e)}.forest .better{stroke:var(--good,#2a6f4e);fill:var(--good,#2a6f4e)}
.forest .point{fill:var(--quiet,#5b636d)}.forest .mean{fill:var(--instruct,#2f6db5)}.forest .next{stroke:var(--instruct,#2f6db5);stroke-width:4;opacity:.45}.forest .quiet{fill:var(--quiet,#5b636d)}.forest a{fill:inherit}.forest text.worse,.forest text.better{stroke:none}`;
  const { measures, runs, groups, summaries, filters } = JSON.parse(document.getElementById("data-runs").textContent);
  const byId = (id) => document.getElementById(id);
  const form = byId("filters");
  const body = byId("table").tBodies[0];
  const lines = [...body.rows];
  const places = new Map(groups.map((row) => [row.slice(0, 4).join("\u0001"), row[4]]));
  const words = runs.map((run) => `${run.run}\n${run.parent}`.toLowerCase());
  const gained = measures.findIndex((measure) => measure.name === "reasoning");
  const kept = measures.findIndex((measure) => measure.name === "all");

  const valueOf = (name) => form.elements[name]?.value ?? "";
  const points = (value, digits = 0) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`.replace(/^[\u2212+]([0.]+)$/, "$1");
  const isShown = (line) => !line.hidden;
  const shown = () => [...body.rows].filter(isShown).map((line) => Number(line.dataset.run));

  function make(tag, attributes = {}, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    return element;
  }

  function named(element, text) {
    element.append(make("title", {}, text));
    return element;
  }

  function linked(element, href) {
    if (!href) return element;
    const link = make("a", { href });
    link.append(element);
    return link;
  }

  function summary() {
    const place = places.get(GROUPS.map(valueOf).join("\u0001")) ?? -1;
    return (place < 0 ? {} : summaries[place])[valueOf("unit") || "pair"] ?? summaries[place]?.pair ?? {};
  }

  function showSummary() {
    const unit = valueOf("unit") || "pair";
    const rows = summary();
    byId("unit-head").textContent = `${unit}s`;
    byId("summary").tBodies[0].replaceChildren(
      ...measures.map(({ name, title }) => {
        const line = document.createElement("tr");
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = title;
        line.append(head);
        const cells = rows[name]?.cells ?? CELLS.map(() => "\u2014");
        for (const text of cells) {
          const cell = line.insertCell();
          cell.className = "n";
          cell.textContent = text;
        }
        return line;
      }),
    );
    const isSearch = valueOf("text").trim() !== "";
    byId("summary-note").textContent = isSearch ? "The summary is of all runs that the lists choose; the search for a name does not change it." : "";
  }

  function ticks(low, high) {
    const step = [1, 2, 5, 10, 20, 25, 50].find((width) => (high - low) / width <= 8) ?? 100;
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
    return found;
  }

  function scaleOf(values, from, width) {
    const low = Math.min(0, ...values), high = Math.max(0, ...values), margin = 0.04 * (high - low || 1);
    const at = (value) => from + (width * (value - low + margin)) / (high - low + 2 * margin);
    return { at, ticks: ticks(low - margin, high + margin) };
  }

  function begin(svg, width, height) {
    svg.replaceChildren(make("style", {}, STYLE));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
  }

  function forestRow(run, at, y, x) {
    const [value, low, high, tone] = run.cells[at];
    const label = run.run.length > 42 ? `${run.run.slice(0, 41)}…` : run.run;
    const text = named(make("text", { x: 0, y: y + 4 }, label), `${run.run}\n${run.parent}, ${run.route}, ${run.size}`);
    const parts = [linked(text, run.href)];
    if (value === null) return [...parts, named(make("text", { x: LABEL + WIDTH + 12, y: y + 4, class: "quiet" }, low ? "cannot tell" : "\u2014"), low || "not asked")];
    const half = Math.min(5, Math.max(2, 30 / Math.max(high - low, 1)));
    parts.push(make("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: `range ${tone}` }));
    parts.push(make("rect", { x: x(value) - half, y: y - half, width: 2 * half, height: 2 * half, class: tone || "point" }));
    parts.push(make("text", { x: LABEL + WIDTH + 12, y: y + 4, class: tone || "quiet" }, `${points(value)} (${points(low)} to ${points(high)})`));
    return parts;
  }

  function drawForest() {
    const at = Number(byId("measure").value), svg = byId("forest-plot");
    const chosen = shown().map((place) => runs[place]);
    if (byId("order").value === "effect") chosen.sort((a, b) => (a.cells[at][0] ?? 1e9) - (b.cells[at][0] ?? 1e9));
    const { drawn } = summary()[measures[at].name] ?? { drawn: [null, null, null, null, null] };
    const [mean, low, high, nextLow, nextHigh] = drawn;
    const values = chosen.flatMap((run) => (run.cells[at][0] === null ? [] : run.cells[at].slice(1, 3)));
    const { at: x, ticks: marks } = scaleOf([...values, ...(low === null ? [] : [low, high])], LABEL, WIDTH);
    const height = TOP + ROW * chosen.length + 8, edge = (value) => Math.min(LABEL + WIDTH, Math.max(LABEL, x(value)));
    begin(svg, LABEL + WIDTH + TEXT, height);
    for (const mark of marks) {
      svg.append(make("line", { x1: x(mark), x2: x(mark), y1: 22, y2: height, class: mark ? "grid" : "axis" }));
      svg.append(make("text", { x: x(mark), y: 14, "text-anchor": "middle", class: "quiet" }, points(mark)));
    }
    svg.append(make("text", { x: 0, y: 14 }, `${measures[at].title}, points`));
    if (low !== null) {
      const unit = valueOf("unit") || "pair";
      svg.append(make("text", { x: 0, y: 36, "font-weight": 600 }, `mean over ${summary()[measures[at].name].cells[0]} ${unit}s`));
      svg.append(make("path", { d: `M${x(low)} 32L${x(mean)} 26L${x(high)} 32L${x(mean)} 38Z`, class: "mean" }));
      svg.append(make("text", { x: LABEL + WIDTH + 12, y: 36, "font-weight": 600 }, `${points(mean, 1)} (${points(low, 1)} to ${points(high, 1)})`));
      svg.append(make("text", { x: 0, y: 52 }, `one more ${unit}, 95%`));
      svg.append(make("line", { x1: edge(nextLow), x2: edge(nextHigh), y1: 48, y2: 48, class: "next" }));
      svg.append(make("text", { x: LABEL + WIDTH + 12, y: 52 }, `${points(nextLow, 1)} to ${points(nextHigh, 1)}`));
    }
    chosen.forEach((run, row) => svg.append(...forestRow(run, at, TOP + ROW * row + ROW / 2, x)));
  }

  function rank(values) {
    const order = values.map((_, place) => place).sort((a, b) => values[a] - values[b]);
    const ranks = new Array(values.length);
    for (let from = 0; from < order.length; ) {
      let to = from;
      while (to + 1 < order.length && values[order[to + 1]] === values[order[from]]) to++;
      for (let place = from; place <= to; place++) ranks[order[place]] = (from + to) / 2;
      from = to + 1;
    }
    return ranks;
  }

  function correlation(a, b) {
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [ma, mb] = [mean(a), mean(b)];
    const sum = (f) => a.reduce((total, _, place) => total + f(a[place] - ma, b[place] - mb), 0);
    return sum((x, y) => x * y) / Math.sqrt(sum((x) => x * x) * sum((_, y) => y * y));
  }

  function drawTrade() {
    const svg = byId("trade-plot"), width = 640, height = 380;
    const known = gained < 0 || kept < 0 ? [] : shown().map((place) => runs[place]).filter((run) => run.cells[gained][0] !== null && run.cells[kept][0] !== null);
    byId("trade").hidden = !known.length;
    if (!known.length) return;
    const [across, along] = [gained, kept].map((at) => known.map((run) => run.cells[at][0]));
    const x = scaleOf(across, 60, width - 80), y = scaleOf(along, 0, height - 70), up = (value) => height - 50 - y.at(value);
    begin(svg, width, height);
    for (const mark of x.ticks) {
      svg.append(make("line", { x1: x.at(mark), x2: x.at(mark), y1: 10, y2: height - 50, class: mark ? "grid" : "axis" }));
      svg.append(make("text", { x: x.at(mark), y: height - 34, "text-anchor": "middle", class: "quiet" }, points(mark)));
    }
    for (const mark of y.ticks) {
      svg.append(make("line", { x1: 60, x2: width - 20, y1: up(mark), y2: up(mark), class: mark ? "grid" : "axis" }));
      svg.append(make("text", { x: 52, y: up(mark) + 4, "text-anchor": "end", class: "quiet" }, points(mark)));
    }
    svg.append(make("text", { x: 60 + (width - 80) / 2, y: height - 12, "text-anchor": "middle" }, "reasoning gained, points"));
    svg.append(make("text", { x: 0, y: 0, transform: `translate(14 ${(height - 50) / 2}) rotate(-90)`, "text-anchor": "middle" }, "alignment, mean change, points"));
    known.forEach((run, place) => {
      const circle = make("circle", { cx: x.at(across[place]), cy: up(along[place]), r: 4, class: "point", opacity: 0.7 });
      svg.append(linked(named(circle, `${run.run}\nreasoning ${points(across[place])}, alignment ${points(along[place])}`), run.href));
    });
    byId("trade-found").textContent =
      known.length < 3 ? "" : `Of ${known.length} runs, Spearman's ρ of the two is ${correlation(rank(across), rank(along)).toFixed(2).replace("-", "\u2212")}; runs of one pair or parent are not independent, so no p is given.`;
  }

  function choose() {
    const text = valueOf("text").trim().toLowerCase();
    const wanted = filters.filter((name) => valueOf(name));
    for (const line of lines) {
      const place = Number(line.dataset.run);
      line.hidden = !wanted.every((name) => runs[place][name] === valueOf(name)) || (text !== "" && !words[place].includes(text));
    }
    const count = lines.filter(isShown).length;
    byId("found").textContent = count ? `${count} of ${runs.length} runs` : "no run fits";
    showSummary();
    drawForest();
    drawTrade();
  }

  function sortBy(button) {
    const head = button.closest("th"), column = head.cellIndex, isNumber = button.dataset.sort === "number";
    const falls = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const keyed = lines.map((line) => {
      const cell = line.cells[column], value = cell.dataset.value;
      return [isNumber ? (value === undefined ? null : Number(value)) : cell.textContent, line];
    });
    const sign = falls ? -1 : 1;
    keyed.sort(([a], [b]) => (a === null) - (b === null) || sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true })));
    body.append(...keyed.map(([, line]) => line)); // what has no number stands last either way
    if (byId("order").value === "table") drawForest();
  }

  function save() {
    const svg = byId("forest-plot").cloneNode(true);
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
    link.download = `forest-${measures[Number(byId("measure").value)].name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  for (const button of document.querySelectorAll("[data-sort]")) button.addEventListener("click", () => sortBy(button));
  for (const list of document.querySelectorAll("form")) list.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", choose);
  byId("measure").addEventListener("change", drawForest);
  byId("order").addEventListener("change", drawForest);
  byId("save-forest").addEventListener("click", save);

  function reachScrolled() {
    for (const box of document.querySelectorAll(".scroll")) box.tabIndex = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight ? 0 : -1;
  }
  window.addEventListener("resize", reachScrolled);
  choose();
  reachScrolled();
  document.documentElement.dataset.plots = "drawn";
})();
