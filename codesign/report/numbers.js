// Numbers as people read them. The style of each score (percent, SI, binary, plain) comes with the data.

const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"], [1e-15, "f"]];
const BINARY = [[2 ** 40, "Ti"], [2 ** 30, "Gi"], [2 ** 20, "Mi"], [2 ** 10, "Ki"], [1, ""]];
const PICOJOULES = { style: "si", symbol: "J", factor: 1e-12, sign: -1 };
const SECONDS = { style: "si", symbol: "s", factor: 1, sign: -1 };
const COUNT = { style: "si", symbol: "", factor: 1, sign: 0 };

function digits(value) {
  if (value === 0) return "0";
  const decimals = Math.min(100, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))));
  const shown = value.toFixed(decimals);
  return (shown.includes(".") ? shown.replace(/0+$/, "").replace(/\.$/, "") : shown).replace("-", "−");
}

// The prefix that writes a value without leading zeros; values of other styles are taken as they are.
function prefixOf(score, value) {
  if (score.style !== "si" && score.style !== "binary") return [1, ""];
  const list = score.style === "si" ? SI : BINARY;
  const shown = Math.abs(value * score.factor);
  if (shown === 0) return [1, ""];
  return list.find(([scale]) => shown >= 0.9995 * scale) ?? list[list.length - 1];
}

function format(score, value) {
  if (!isNumber(value)) return data.missing;
  if (score.style === "percent") return `${(100 * value).toFixed(1)} %`.replace("-", "−");
  if (score.style === "plain") return `${digits(value)} ${score.symbol}`.trim();
  const [scale, prefix] = prefixOf(score, value);
  return `${digits((value * score.factor) / scale)} ${prefix}${score.symbol}`.trim();
}

function ratioDigits(ratio) {
  if (ratio < 1.1) return ratio.toFixed(ratio < 1.01 ? 3 : 2);
  return ratio.toFixed(ratio < 99.5 ? 1 : 0);
}

// How a value differs from the reference's, and whether that is good, bad or not for us to say.
function change(score, value, was) {
  if (!isNumber(value) || !isNumber(was)) return { text: "", tone: "" };
  const tone = value === was || score.sign === 0 ? "" : (value > was) === (score.sign > 0) ? "good" : "bad";
  if (score.style === "percent") {
    const points = 100 * (value - was);
    if (Math.abs(points) < 0.05) return { text: "±0.0 pp", tone: "" };
    return { text: `${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(1)} pp`, tone };
  }
  if (value === was) return { text: "the same", tone };
  const word = value < was ? "less" : "more";
  if (value <= 0 || was <= 0) return { text: `${format(score, Math.abs(value - was))} ${word}`, tone };
  return { text: `${ratioDigits(Math.max(value / was, was / value))}× ${word}`, tone };
}
