// The time of the server. Ages are counted in it, so that a wrong clock of this machine makes no old price new.

let offset = 0; // milliseconds that the server is ahead of this machine

/** Return the time of the server, in milliseconds since 1970. */
export const now = () => Date.now() + offset;

/** Take the server's time from an answer to a request that was sent at `began` and answered at `ended`. */
export function learn(serverTime, began, ended) {
  const seen = serverTime - (began + ended) / 2;
  if (Number.isFinite(seen) && Math.abs(seen - offset) > (ended - began) / 2 + 50) offset = seen;
}
