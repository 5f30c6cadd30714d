// Numbers and times for people.

const whole = new Intl.NumberFormat('en-US');

function count(number) {
  return whole.format(number);
}

function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

// The two greatest units of a time in seconds.
function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const steps = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = steps.findIndex(([, length]) => left >= length);
  if (first === -1) {
    return '0 s';
  }
  const [unit, length] = steps[first];
  const text = `${count(Math.floor(left / length))} ${unit}`;
  const rest = steps[first + 1] && Math.floor((left % length) / steps[first + 1][1]);
  return rest ? `${text} ${rest} ${steps[first + 1][0]}` : text;
}

// A moment by the clock of this browser's zone.
function moment(unixMs) {
  const date = new Date(unixMs);
  const two = (number) => String(number).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function ago(nowMs, thenMs) {
  return `${duration((nowMs - thenMs) / 1000)} ago`;
}

// An element with a class, texts and elements in it. Strings become text, never markup.
function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) {
    made.className = className;
  }
  made.append(...content);
  return made;
}

// Sets a text only if it is another one: nothing is announced, and no selection lost, for nothing.
function say(where, text) {
  if (where.textContent !== text) {
    where.textContent = text;
  }
}
