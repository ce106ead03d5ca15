// Axes: where a value stands, which ticks to draw, what to write beside them.

const NICE = [1, 2, 2.5, 5, 10];

function linearTicks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * NICE.find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks;
}

// The densest of a few regular sets of 1, 2 and 5 times a power of ten (or powers of two) that still fits.
function logTicks(low, high, most, base) {
  const first = Math.floor(Math.log(low) / Math.log(base)) - 1;
  const last = Math.ceil(Math.log(high) / Math.log(base)) + 1;
  const sets = base === 10 ? [[1, 2, 3, 5, 7], [1, 2, 5], [1, 3]] : [];
  for (const factors of [...sets, [1]]) {
    for (let every = 1; every <= (factors.length > 1 ? 1 : last - first); every += 1) {
      const ticks = [];
      for (let power = first; power <= last; power += 1) {
        if (power % every !== 0) continue;
        for (const factor of factors) ticks.push(factor * base ** power);
      }
      const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
      if (inside.length <= most && inside.length >= 2) return inside;
      if (inside.length < 2) break;
    }
  }
  return linearTicks(low, high, Math.min(3, most)).filter((tick) => tick > 0);
}

const spread = (values) => [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];

// Values that span more than a factor of 20, all positive, read better on a logarithmic axis.
function wantsLog(score) {
  const values = trials.map((trial) => valueOf(trial, score)).filter(isNumber);
  const [low, high] = spread(values);
  return score.style !== "percent" && low > 0 && high / low > 20;
}
const allowsLog = (score) => trials.some((trial) => valueOf(trial, score) > 0);

// A scale over values; `from` and `to` are pixels, `most` is how many ticks fit, `pad` the margin's share.
function makeScale({ score, values, log, from, to, most, pad = 0.05 }) {
  let [low, high] = spread(values);
  if (!(low <= high)) [low, high] = log ? [1, 10] : [0, 1];
  const into = log ? Math.log : (value) => value;
  const out = log ? Math.exp : (value) => value;
  let [a, b] = [into(low), into(high)];
  if (a === b) {
    const room = log ? Math.log(1.5) : score.style === "percent" ? 0.02 : Math.abs(a) * 0.1 || 1;
    [a, b] = [a - room, b + room];
  }
  const margin = (b - a) * pad;
  const lowest = !log && low >= 0 ? Math.max(0, a - margin) : a - margin;
  const highest = score.style === "percent" && !log && b <= 1 ? Math.min(b + margin, 1.005) : b + margin;
  const at = (value) => from + ((into(value) - lowest) / (highest - lowest)) * (to - from);
  const domain = [out(lowest), out(highest)];
  const { ticks, unit } = labelledTicks(score, domain, log, most);
  return { at, ticks, domain, title: capital(score.label) + (unit ? ` (${unit})` : "") };
}

function labelledTicks(score, [low, high], log, most) {
  const binary = score.style === "binary";
  if (score.style === "percent") {
    const values = (log ? logTicks(low, high, most, 10) : linearTicks(low, high, most)).filter((v) => v <= 1 + 1e-9);
    return { unit: "%", ticks: values.map((value) => ({ value, label: digits(100 * value) })) };
  }
  if (log) {
    const values = logTicks(low * score.factor, high * score.factor, most, binary ? 2 : 10).map((v) => v / score.factor);
    return { unit: "", ticks: values.map((value) => ({ value, label: format(score, value) })) };
  }
  const [scale, prefix] = prefixOf(score, Math.max(Math.abs(low), Math.abs(high)));
  const one = scale / score.factor;
  const values = linearTicks(low / one, high / one, most);
  return { unit: prefix + score.symbol, ticks: values.map((shown) => ({ value: shown * one, label: digits(shown) })) };
}

// Pixels that the widest tick label takes beside a vertical axis, at 12 pixels a letter's height.
const roomFor = (scale) => 14 + 7 * scale.ticks.reduce((most, tick) => Math.max(most, tick.label.length), 2);

// Draw again whenever the room changes; the first call comes from here too.
function drawInto(host, draw) {
  let width = 0;
  const look = () => {
    const now = Math.round(host.clientWidth);
    if (now === width || now === 0) return;
    width = now;
    draw(width);
  };
  new ResizeObserver(look).observe(host);
  look();
  return () => draw(width || host.clientWidth || 320);
}

function picture(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...children);
}
