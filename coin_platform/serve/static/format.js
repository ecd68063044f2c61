// Numbers, times and names as the page writes them.

export const NONE = "–"; // what is not known

const formats = new Map();

function decimals(count) {
  if (!formats.has(count)) {
    formats.set(count, new Intl.NumberFormat("en-US", { minimumFractionDigits: count, maximumFractionDigits: count }));
  }
  return formats.get(count);
}

const finite = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Return a price with as many digits as it needs: won of 1,000 and more have no fraction. */
export function price(value, currency = "USD") {
  if (!finite(value)) return NONE;
  const size = Math.abs(value);
  if (currency === "KRW" && size >= 1000) return decimals(0).format(value);
  if (size >= 1000) return decimals(2).format(value);
  if (size >= 1) return decimals(currency === "KRW" ? 1 : 4).format(value);
  if (size === 0) return "0";
  return decimals(Math.min(12, 4 - Math.floor(Math.log10(size)))).format(value);
}

/** Return a fraction in per cent with its sign: 0.021 is +2.10%. */
export function percent(fraction) {
  if (!finite(fraction)) return NONE;
  const text = decimals(2).format(Math.abs(fraction * 100));
  if (text === "0.00") return "0.00%";
  return `${fraction < 0 ? "−" : "+"}${text}%`;
}

/** Return a fraction in basis points: 0.0001 is 1.0. */
export function basisPoints(fraction) {
  if (!finite(fraction)) return NONE;
  const value = fraction * 1e4;
  return decimals(Math.abs(value) < 100 ? 1 : 0).format(value);
}

/** Return a stretch of seconds in one unit. */
export function age(seconds) {
  if (!finite(seconds)) return NONE;
  const value = Math.max(0, seconds);
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172_800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} d`;
}

/** Return milliseconds since 1970 as a time of day in UTC. */
export function timeOfDay(milliseconds) {
  return finite(milliseconds) ? new Date(milliseconds).toISOString().slice(11, 19) : NONE;
}

/** Return a number with a comma between thousands. */
export const count = (value) => (finite(value) ? decimals(0).format(value) : NONE);

/** Return the time of a record in milliseconds since 1970, or null. Our JSON writes `2026-11-02 00:00:00.5+00:00`. */
export function timeOf(text) {
  if (typeof text !== "string") return null;
  const time = Date.parse(text.replace(" ", "T"));
  return Number.isNaN(time) ? null : time;
}
