// The front as a table: click a heading to sort, a row to select.

const frontRows = [...front, ...(reference !== null && !reference.front ? [reference] : [])];
const frontScores = shownScores([]).filter((score) => frontRows.some((trial) => isNumber(valueOf(trial, score))));

function drawFront() {
  const host = byId("front");
  byId("front-note").textContent = frontWords();
  if (frontRows.length === 0) {
    host.parentElement.hidden = true;
    return;
  }
  host.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, heading("trial", "Trial"), frontScores.map((score) => heading(score.name, capital(score.label))), data.table_knobs.map((label) => el("th", { scope: "col", class: "text" }, capital(label))))),
    el("tbody", {}, sortedRows().map(frontRow))));
}

function frontWords() {
  if (front.length === 0) return "No completed design is on the front.";
  const many = front.length === 1 ? "One design that nobody beats" : `${front.length} designs that nobody beats`;
  return `${many} in every objective at once${reference === null ? "." : ", with the change from the reference under each score."} ${chipWords()}Select a row to see it above and below.`;
}

function chipWords() {
  const chip = front.find((trial) => trial.variant);
  if (chip === undefined) return "";
  const count = front.filter((trial) => trial.variant).length;
  return `${count === 1 ? "One is a trial's network" : `${count} are trials' networks`} on another chip: ${chip.label} is trial ${chip.number} on one that its hardware sweep found. `;
}

function heading(name, words) {
  const sorted = state.sort === name ? (state.down ? "descending" : "ascending") : "none";
  const button = el("button", { type: "button" }, words);
  button.addEventListener("click", () => update(state.sort === name ? { down: !state.down } : { sort: name, down: false }));
  return el("th", { scope: "col", "aria-sort": sorted }, button);
}

// Missing values stay at the end whichever way the rest is sorted.
function sortedRows() {
  const score = scoreByName.get(state.sort) ?? null;
  const key = (trial) => (score === null ? trial.order : valueOf(trial, score));
  const way = state.down ? -1 : 1;
  return [...frontRows].sort((a, b) => {
    const [u, v] = [key(a), key(b)];
    if (!isNumber(u) || !isNumber(v)) return Number(!isNumber(u)) - Number(!isNumber(v)) || a.order - b.order;
    return way * (u - v) || a.order - b.order;
  });
}

function frontRow(trial) {
  const pick = el("button", { type: "button", class: "link", "aria-label": `Select trial ${trial.label}` }, trial.label);
  const row = el("tr", { "data-trial": trial.label, class: trial.label === state.trial ? "picked" : null }, el("td", {}, pick, ...tagsOf(trial)),
    frontScores.map((score) => {
      const { text: words, tone } = trial.reference ? { text: "", tone: "" } : change(score, valueOf(trial, score), valueOf(reference, score));
      return el("td", { class: "num" }, format(score, valueOf(trial, score)), words ? el("span", { class: `delta ${tone}` }, words) : null);
    }), data.table_knobs.map((label) => el("td", { class: "text" }, breakable(new Map(trial.design).get(label) ?? data.missing))));
  row.addEventListener("click", () => update({ trial: trial.label }));
  return row;
}

// Mark the selected row and bring it into the table's own window, without moving the page.
function pickRow() {
  const host = byId("front");
  for (const row of host.querySelectorAll("tbody tr")) row.classList.toggle("picked", row.dataset.trial === state.trial);
  const row = host.querySelector("tr.picked");
  const head = host.querySelector("thead");
  if (row === null || head === null) return;
  const [top, low, high] = [row.offsetTop, host.scrollTop + head.offsetHeight, host.scrollTop + host.clientHeight];
  if (top < low || top + row.offsetHeight > high) host.scrollTop = top - (host.clientHeight - row.offsetHeight) / 2;
}
