"use strict";
// Everything that a model wrote goes into the page by textContent alone.
const data = JSON.parse(document.getElementById("report-data").textContent);
const $ = (id) => document.getElementById(id);
const WINNERS = { policy: "the policy", initial: "the initial model", draw: "neither (draw)", unjudged: "not judged" };
const FIGURES = ["reliability", "margins", "lengths"];
const KINDS = { best: "Surest labels", worst: "Worst labels", flagged: "Flagged by the noise detector" };

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function draw(figures, parent) {
  // All places first: a figure takes the width that its place has when it is drawn.
  parent.replaceChildren(...figures.map(() => element("div")));
  figures.forEach((figure, number) => {
    Plotly.newPlot(parent.children[number], figure.data, figure.layout, { responsive: true, displayModeBar: false });
  });
}

function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => Object.assign(element("option", text), { value })));
}

function pairOf(chosen, rejected) {
  const pair = element("div", undefined, "pair");
  for (const [title, text] of [["Chosen", chosen], ["Rejected", rejected]]) {
    const side = pair.appendChild(element("div"));
    side.append(element("h3", title), element("p", text, "text"));
  }
  return pair;
}

function showLabels() {
  const section = data.sections[$("labels-policy").value];
  draw(FIGURES.map((name) => section.figures[name]).filter(Boolean), $("labels-figures"));
  $("labels-examples").replaceChildren();
  for (const [kind, title] of Object.entries(KINDS)) {
    const examples = section.examples.filter((example) => example.kind === kind);
    if (!examples.length) continue;
    const list = $("labels-examples").appendChild(element("details"));
    list.append(element("summary", `${title} (${examples.length})`));
    for (const example of examples) {
      const shown = list.appendChild(element("div", undefined, "example"));
      const verdict = example.wrong === null ? "" : example.wrong ? ", wrong" : ", right";
      shown.append(element("h3", `Margin ${example.margin.toFixed(2)}${verdict}`));
      shown.append(element("p", example.prompt, "text"), pairOf(example.chosen, example.rejected));
    }
  }
}

let index = 0;
const section = () => data.sections[$("policy").value];
const wanted = () => section().answers.filter((answer) => !$("winner").value || answer.winner === $("winner").value);

function showFilters() {
  const chosen = $("winner").value;
  const counts = Object.entries(WINNERS).map(([key, text]) => [
    key, text, section().answers.filter((answer) => answer.winner === key).length,
  ]).filter(([, , count]) => count);
  const total = section().answers.length;
  const all = total < section().n_answers ? `any (${total} of ${section().n_answers} answers)` : `any (${total})`;
  options($("winner"), [["", all], ...counts.map(([key, text, count]) => [key, `${text} (${count})`])]);
  $("winner").value = counts.some(([key]) => key === chosen) ? chosen : "";
}

function showAnswer() {
  const answers = wanted();
  index = Math.max(0, Math.min(index, answers.length - 1));
  const answer = answers[index] ?? { instruction: "", initial: "", policy: "", winner: "" };
  $("instruction").textContent = answer.instruction;
  $("initial-text").textContent = answer.initial;
  $("policy-text").textContent = answer.policy;
  for (const [side, name] of [["initial", "Initial model"], ["policy", section().name]]) {
    const won = answer.winner === side;
    $(`${side}-title`).textContent = won ? `${name} ✓ preferred` : name;
    $(`${side}-side`).className = won ? "won" : "";
  }
  $("position").textContent = answers.length ? `${index + 1} of ${answers.length}` : "none";
  $("previous").disabled = index === 0;
  $("next").disabled = index >= answers.length - 1;
}

function step(by) { index += by; showAnswer(); }

draw(data.figures, $("curves"));
const labelled = data.sections.map((entry, number) => [number, entry.name])
  .filter(([number]) => Object.keys(data.sections[number].figures).length);
if (labelled.length) {
  options($("labels-policy"), labelled);
  $("labels-policy").value = labelled.at(-1)[0];
  $("labels-policy").addEventListener("change", showLabels);
  showLabels();
}
options($("policy"), data.sections.map((entry, number) => [number, entry.name]));
$("policy").value = data.sections.length - 1;
$("policy").addEventListener("change", () => { showFilters(); showAnswer(); });
$("winner").addEventListener("change", () => { index = 0; showAnswer(); });
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
showFilters();
showAnswer();
