"use strict";
// The browser of answers: filters the embedded rows and builds cards for a page of them at a time.
// What prompts and models say is only ever set as textContent.
(function () {
  const source = document.getElementById("data-answers");
  if (!source) return;
  const PAGE = 20;
  const { rows, dimensions, thinks } = JSON.parse(source.textContent);
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const found = document.getElementById("found");
  const sides = { instruct: "instruct model", reasoning: "reasoning model" };
  let matching = rows;
  let shown = 0;

  for (const row of rows) {
    const asked = [row, ...row.variants];
    const answers = asked.flatMap((one) => Object.keys(sides).flatMap((side) => one[side].answers));
    row.searchable = [row.item, row.family, ...asked.map((one) => one.prompt), ...answers.flatMap((a) => [a.answer, a.thinking, a.label, a.why])].join("\n").toLowerCase();
  }

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function signed(value) {
    return (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
  }

  function answerBlock(answer, sayThink) {
    const block = make("div", "answer");
    const mark = make("p", "mark");
    mark.append(make("b", answer.aligned ? "yes" : "no", answer.aligned ? "✓ aligned" : "✗ not aligned"), ` · ${answer.label}`);
    if (answer.why) mark.append(`: ${answer.why}`);
    if (sayThink) mark.append(` · ${thinks[answer.think] || answer.think}`);
    block.append(mark);
    if (answer.thinking) {
      const details = make("details");
      details.append(make("summary", "", answer.closed ? "thinking" : "thinking (cut off)"), make("p", "said", answer.thinking));
      block.append(details);
    }
    block.append(make("p", "said", (answer.answer || "(no answer)") + (answer.answer && !answer.finished ? " […]" : "")));
    return block;
  }

  function sideBlock(row, side) {
    const { answers, readouts } = row[side];
    const block = make("div", side);
    const who = make("p", "who", sides[side]);
    for (const readout of readouts) {
      who.append(make("span", "readout", `readout ${signed(readout.value)} (${thinks[readout.think] || readout.think}; ${readout.reliability})`));
    }
    block.append(who);
    for (const answer of answers) block.append(answerBlock(answer, answers.length > 1));
    if (!answers.length) block.append(make("p", "quiet", "no answer stored"));
    return block;
  }

  function bothBlock(row) {
    const both = make("div", "both");
    both.append(...Object.keys(sides).map((side) => sideBlock(row, side)));
    return both;
  }

  function card(row) {
    const article = make("article", "card");
    const tags = make("p", "tags");
    tags.append(make("span", "", dimensions[row.dimension]), make("span", "", row.contrast), make("span", "", row.family.replaceAll("-", " ")));
    if (row.changed) tags.append(make("span", "changed", "changed"));
    article.append(tags, make("p", "prompt", row.prompt), bothBlock(row));
    for (const variant of row.variants) {
      const details = make("details", "variant");
      details.append(make("summary", "", `the same ${variant.how}`), make("p", "prompt", variant.prompt), bothBlock(variant));
      article.append(details);
    }
    return article;
  }

  function showMore() {
    cards.append(...matching.slice(shown, shown + PAGE).map(card));
    shown = Math.min(shown + PAGE, matching.length);
    more.hidden = shown >= matching.length;
    more.textContent = `Show ${Math.min(PAGE, matching.length - shown)} more`;
    found.textContent = matching.length ? `${matching.length} of ${rows.length} prompts` : "no prompt matches";
  }

  function filter() {
    const { dimension, contrast, label, changed, text } = form.elements;
    const [side, said] = label.value.split(":");
    const wanted = text.value.trim().toLowerCase();
    matching = rows.filter(
      (row) =>
        (!dimension.value || row.dimension === dimension.value) &&
        (!contrast.value || row.contrast === contrast.value) &&
        (!label.value || row[side].answers.some((answer) => answer.label === said)) &&
        (!changed.checked || row.changed) &&
        (!wanted || row.searchable.includes(wanted)),
    );
    cards.replaceChildren();
    shown = 0;
    showMore();
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  filter();
})();
