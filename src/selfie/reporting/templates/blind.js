// Reading blind: two answers without their authors, in an order drawn by the run's seed; the reader decides first.
let pair = 0;
const choices = data.blind.map(() => null);
const shown = data.blind.map(() => false);
const AUTHORS = { initial: "the initial model", policy: data.sections.at(-1)?.name };

function showPair() {
  const { instruction, texts, sides, follows } = data.blind[pair];
  $("blind-instruction").textContent = instruction;
  ["A", "B"].forEach((letter, side) => {
    const guide = follows[side] === null ? "" : follows[side] ? ", follows the guide" : ", does not follow the guide";
    $(`blind-title-${letter}`).textContent = shown[pair] ? `${letter}: ${AUTHORS[sides[side]]}${guide}` : letter;
    $(`blind-text-${letter}`).textContent = texts[side];
  });
  document.querySelectorAll("#blind [data-choice]").forEach((button) => {
    button.setAttribute("aria-pressed", button.dataset.choice === choices[pair]);
    button.disabled = shown[pair];
  });
  $("blind-reveal").disabled = shown[pair];
  $("blind-position").textContent = `${pair + 1} of ${data.blind.length}`;
  $("blind-previous").disabled = pair === 0;
  $("blind-next").disabled = pair === data.blind.length - 1;
  showTally();
}

function showTally() {
  const tally = { initial: 0, policy: 0, neither: 0 };
  choices.forEach((choice, number) => {
    if (choice && shown[number]) tally[choice === "neither" ? choice : data.blind[number].sides["AB".indexOf(choice)]] += 1;
  });
  $("blind-tally").textContent = `Revealed so far, you found better: ${AUTHORS.policy} ${tally.policy} times, ` +
    `the initial model ${tally.initial} times, neither ${tally.neither} times.`;
}

if (data.blind.length) {
  document.querySelectorAll("#blind [data-choice]").forEach((button) => {
    button.addEventListener("click", () => { choices[pair] = button.dataset.choice; showPair(); });
  });
  $("blind-reveal").addEventListener("click", () => { shown[pair] = true; showPair(); });
  $("blind-previous").addEventListener("click", () => { pair -= 1; showPair(); });
  $("blind-next").addEventListener("click", () => { pair += 1; showPair(); });
  showPair();
}
