// Parallel coordinates of the objectives; on a narrow screen the axes lie down and the lines run downwards.

const parallel = { axes: [], lines: [], overlay: null, flat: false };

function drawParallel(width) {
  const shown = objectives.filter((score) => completed.some((trial) => isNumber(valueOf(trial, score))));
  byId("parallel-section").hidden = shown.length < 2;
  if (shown.length < 2) return;
  parallel.flat = width < 600;
  const height = parallel.flat ? shown.length * 84 + 4 : 330;
  parallel.axes = shown.map((score, i) => parallelAxis(score, i, shown.length, width, height));
  parallel.lines = completed.map((trial) => ({ trial, points: linePoints(trial) })).filter((line) => line.points.length > 0);
  const kinds = ["dominated", "front", "reference"];
  const groups = kinds.map((kind) => lineGroup(kind, parallel.lines.filter((line) => kindOf(line.trial) === kind)));
  parallel.overlay = svg("g", { class: "pl" });
  const image = picture(width, height, `Objectives of ${parallel.lines.length} completed designs as lines over parallel axes`,
    ...groups, parallel.overlay, ...parallel.axes.map(axisPicture));
  image.dataset.lines = String(parallel.lines.length);
  image.addEventListener("pointermove", (event) => {
    const line = nearestLine(image, event);
    drawLines(line);
    if (line) showTrial(line.trial, [], event.clientX, event.clientY);
    else hideTip();
    image.style.cursor = line ? "pointer" : "default";
  });
  image.addEventListener("pointerleave", () => { hideTip(); drawLines(null); });
  image.addEventListener("click", (event) => {
    const line = nearestLine(image, event);
    if (line) update({ trial: line.trial.label });
  });
  byId("parallel").replaceChildren(image);
  parallelLegend();
  drawLines(null);
}

// Many lines are drawn thinner in ink, so that a crowd stays a texture and the front stays readable.
function lineGroup(kind, lines) {
  const group = svg("g", { class: `pl pl-${kind}` }, lines.map((line) => svg("path", { d: pathOf(line) })));
  const [most, least] = { dominated: [0.3, 0.05], front: [0.65, 0.25], reference: [1, 1] }[kind];
  group.style.strokeOpacity = String(Math.min(most, Math.max(least, 30 / Math.max(1, lines.length))));
  return group;
}

function parallelAxis(score, i, count, width, height) {
  const values = completed.map((trial) => valueOf(trial, score)).filter(isNumber);
  const log = wantsLog(score);
  const [worst, best] = parallel.flat ? [14, width - 14] : [height - 14, 52];
  const [from, to] = score.sign > 0 ? [worst, best] : [best, worst];
  const most = parallel.flat ? 4 : 6;
  const scale = makeScale({ score, values: log ? values.filter((v) => v > 0) : values, log, from, to, most, pad: 0.02 });
  const side = Math.min(110, width / (2 * count));
  const place = parallel.flat ? 36 + i * 84 : side + (i * (width - 2 * side)) / (count - 1);
  return { score, scale, log, place, from: worst, to: best, room: (width - 2 * side) / (count - 1), last: i === count - 1 };
}

// Points carry their axis number: a missing value breaks the line instead of bridging it.
function linePoints(trial) {
  return parallel.axes.flatMap((axis, i) => {
    const value = valueOf(trial, axis.score);
    if (!isNumber(value) || (axis.log && value <= 0)) return [];
    const along = axis.scale.at(value);
    return [{ i, x: parallel.flat ? along : axis.place, y: parallel.flat ? axis.place : along }];
  });
}

const pathOf = (line) => line.points.map((p, k) => `${k > 0 && line.points[k - 1].i === p.i - 1 ? "L" : "M"}${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("");

function wrap(words, most) {
  const lines = [""];
  for (const word of words.split(" ")) {
    const last = lines[lines.length - 1];
    if (last && (last.length + word.length + 1 > most) && lines.length < 2) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines;
}

function axisPicture(axis) {
  const unit = (tick) => (axis.score.style === "percent" ? `${tick.label} %` : format(axis.score, tick.value));
  if (parallel.flat) {
    return svg("g", {},
      svg("line", { class: "axis", x1: axis.from, x2: axis.to, y1: axis.place, y2: axis.place }),
      svg("text", { class: "mark", x: axis.from, y: axis.place - 10 }, capital(axis.score.label)),
      axis.scale.ticks.map((tick) => svg("g", {},
        svg("line", { class: "axis", x1: axis.scale.at(tick.value), x2: axis.scale.at(tick.value), y1: axis.place - 3, y2: axis.place + 3 }),
        svg("text", { class: "mark small", x: axis.scale.at(tick.value), y: axis.place + 16, "text-anchor": "middle" }, unit(tick)))));
  }
  const title = wrap(capital(axis.score.label), Math.max(8, Math.floor(axis.room / 8)));
  return svg("g", {},
    svg("line", { class: "axis", x1: axis.place, x2: axis.place, y1: axis.from, y2: axis.to }),
    title.map((words, k) => svg("text", { class: "title", x: axis.place, y: 36 - 16 * (title.length - 1 - k), "text-anchor": "middle" }, words)),
    axis.scale.ticks.map((tick) => svg("g", {},
      svg("line", { class: "axis", x1: axis.place - 3, x2: axis.place + 3, y1: axis.scale.at(tick.value), y2: axis.scale.at(tick.value) }),
      svg("text", { class: "mark small", x: axis.place + (axis.last ? -8 : 8), y: axis.scale.at(tick.value) + 4, "text-anchor": axis.last ? "end" : "start" }, unit(tick)))));
}

function drawLines(hover) {
  if (!parallel.overlay) return;
  const picked = parallel.lines.filter((line) => line.trial.label === state.trial);
  parallel.overlay.replaceChildren(
    ...(hover ? [svg("path", { class: "pl-hover", d: pathOf(hover) })] : []),
    ...picked.map((line) => svg("path", { class: "pl-picked", "data-trial": line.trial.label, d: pathOf(line) })));
}

function nearestLine(image, event) {
  const box = image.getBoundingClientRect();
  const scale = image.viewBox.baseVal.width / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const [run, off] = parallel.flat ? ["y", "x"] : ["x", "y"];
  const at = { x, y };
  let found = null;
  let least = 14;
  for (const line of parallel.lines) {
    const favour = line.trial.front || line.trial.reference ? 5 : 0;
    for (let k = 1; k < line.points.length; k += 1) {
      const [p, q] = [line.points[k - 1], line.points[k]];
      if (q.i !== p.i + 1 || at[run] < p[run] || at[run] > q[run]) continue;
      const there = p[off] + ((at[run] - p[run]) / (q[run] - p[run])) * (q[off] - p[off]);
      const away = Math.abs(at[off] - there) - favour;
      if (away < least) [least, found] = [away, line];
    }
  }
  return found;
}

function parallelLegend() {
  const has = (kind) => parallel.lines.some((line) => kindOf(line.trial) === kind);
  const dash = (kind) => svg("path", { class: `pl pl-${kind}`, d: "M0 9H20" });
  byId("parallel-legend").replaceChildren(...[
    has("front") ? legendEntry("on the front", dash("front")) : null,
    has("reference") ? legendEntry("reference", dash("reference")) : null,
    has("dominated") ? legendEntry("dominated", dash("dominated")) : null,
    legendEntry("selected", dash("picked")),
  ].filter(Boolean));
}
