// What a score means, by pictures that people have scored; the same as ScoreMeaning in Python.

/** Share of ascending quantiles that lie below a score; of a run of equal ones at its first or last. */
function shareBelow(quantiles, score, first) {
  const steps = quantiles.length - 1;
  if (score < quantiles[0] || score > quantiles[steps]) return score > quantiles[steps] ? 1 : 0;
  const left = quantiles.findIndex((value) => value >= score);
  const right = quantiles.findLastIndex((value) => value <= score);
  if (quantiles[left] === score) return (first ? left : right) / steps;
  return (right + (score - quantiles[right]) / (quantiles[right + 1] - quantiles[right])) / steps;
}

/** Say which share of the known pictures a score beats; null where nobody has measured it. */
function placed(score, metric) {
  const { meaning, higher } = data.metrics[metric];
  if (!meaning) return null;
  const below = (shareBelow(meaning.quantiles, score, true) + shareBelow(meaning.quantiles, score, false)) / 2;
  return `better than ${Math.round(100 * (higher ? below : 1 - below))}% of ${meaning.pictures}`;
}

/** The error function, by Abramowitz and Stegun 7.1.26: off by at most 1.5e-7. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

/** Say how probably people prefer a picture to another run's, by Thurstone's law; null where nobody has measured it. */
function preferred(score, other, metric) {
  const { meaning } = data.metrics[metric];
  if (!meaning) return null;
  const share = (1 + erf(gain(score - other, metric) / (2 * meaning.spread))) / 2;
  return `people prefer it with probability ${share.toFixed(2)}`;
}
