"use strict";
// Hands out the rows behind each figure, from inside the page: as a CSV file, or as a table below the figure.
(function () {
  const MOST_ROWS = 200;
  const BYTE_ORDER_MARK = "\ufeff"; // by which spreadsheets know UTF-8
  const FORMULA = /^[=+\-@\t\r\n]/; // a text that begins like this is computed by spreadsheets, as in records/foreign.py

  async function sheet(name) {
    const bytes = Uint8Array.from(atob(document.getElementById(`sheet-${name}`).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  function csvCell(value) {
    if (value === null) return "";
    if (typeof value !== "string") return String(value);
    const safe = FORMULA.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  async function save(button) {
    const { columns, rows } = await sheet(button.dataset.sheet);
    const text = [columns, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([BYTE_ORDER_MARK, text, "\r\n"], { type: "text/csv;charset=utf-8" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  function row(tag, cells) {
    const line = document.createElement("tr");
    for (const value of cells) {
      const cell = document.createElement(tag);
      if (tag === "th") cell.scope = "col";
      if (typeof value === "number") cell.className = "n";
      cell.textContent = value === null ? "" : String(value);
      line.append(cell);
    }
    return line;
  }

  async function show(details) {
    const place = details.querySelector("[data-rows]");
    if (!details.open || place.hasChildNodes()) return;
    const { columns, rows } = await sheet(place.dataset.rows);
    const [table, head, body, caption] = ["table", "thead", "tbody", "caption"].map((tag) => document.createElement(tag));
    caption.textContent =
      rows.length > MOST_ROWS ? `The first ${MOST_ROWS} of ${rows.length} rows; the CSV file has all.` : `${rows.length} rows`;
    head.append(row("th", columns));
    body.append(...rows.slice(0, MOST_ROWS).map((cells) => row("td", cells)));
    table.append(caption, head, body);
    place.append(table);
    place.tabIndex = 0; // it scrolls
  }

  for (const button of document.querySelectorAll("[data-sheet]")) button.addEventListener("click", () => save(button));
  for (const details of document.querySelectorAll("details.rows")) details.addEventListener("toggle", () => show(details));
})();
