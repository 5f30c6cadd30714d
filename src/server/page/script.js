// The page asks for one page of partitions every few seconds and puts what it is told in place. It keeps the elements
// that stay, so that focus, selection and an opened row outlive a refresh.

const EVERY_MS = 5000;
const SLOWEST_MS = 60000;
const PATIENCE_MS = 10000;
const SEARCH_PAUSE_MS = 250;
const PAGE_SIZE = 50;

const FILTERS = [
  ['all', 'All', 'partitions'],
  ['attention', 'Needs attention', 'attention'],
  ['unprotected', 'Unprotected', 'unprotected'],
  ['failing', 'Failing', 'failing'],
  ['deletion_blocked', 'Deletion blocked', 'deletion_blocked'],
  ['paused', 'Paused', 'paused'],
  ['running', 'Running', 'running'],
  ['without_snapshot', 'Without snapshot', 'without_snapshot'],
];

const byId = (id) => document.getElementById(id);
const wanted = { search: '', only: 'all', sort: 'name', page: 1, open: '' };
const rows = new Map();
let last = null;
let lastSnapshots = null;
let answeredAt = 0;
let failures = 0;
let failedSince = 0;
let nextAt = 0;
let timer = 0;
let asking = null;
let paused = false;

/* What the address says, so that a page can be reloaded and passed on. */

function readAddress() {
  const given = new URLSearchParams(location.search);
  wanted.search = given.get('search') ?? '';
  wanted.only = FILTERS.some(([name]) => name === given.get('only')) ? given.get('only') : 'all';
  wanted.sort = ['age', 'entries', 'debt'].includes(given.get('sort')) ? given.get('sort') : 'name';
  wanted.page = Math.max(1, Number.parseInt(given.get('page') ?? '1', 10) || 1);
  wanted.open = given.get('open') ?? '';
  byId('search').value = wanted.search;
  byId('sort').value = wanted.sort;
}

function writeAddress() {
  const said = new URLSearchParams();
  const usual = { search: '', only: 'all', sort: 'name', page: 1, open: '' };
  for (const [name, value] of Object.entries(wanted)) {
    if (value !== usual[name]) {
      said.set(name, value);
    }
  }
  const query = said.toString();
  history.replaceState(null, '', query ? `?${query}` : location.pathname);
}

/* Asking. */

async function ask(path, query, signal) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, { signal, cache: 'no-store' });
  if (answer.ok) {
    return answer.json();
  }
  const told = await answer.text();
  let reason = told;
  try {
    reason = JSON.parse(told).error;
  } catch {
    // Plain text.
  }
  const error = new Error(reason || `status ${answer.status}`);
  error.status = answer.status;
  throw error;
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  const patience = setTimeout(() => mine.abort(new Error('no answer in time')), PATIENCE_MS);
  try {
    const { search, only, sort, page } = wanted;
    const answer = await ask('/status', { search, only, sort, page, page_size: PAGE_SIZE }, mine.signal);
    if (page > answer.pages) {
      wanted.page = answer.pages;
      if (asking === mine) {
        refresh();
      }
      return;
    }
    const snapshots = wanted.open ? await askSnapshots(mine.signal) : null;
    if (asking !== mine) {
      return;
    }
    [last, lastSnapshots, answeredAt, failures] = [answer, snapshots, Date.now(), 0];
    show();
  } catch (error) {
    if (asking !== mine) {
      return;
    }
    failures += 1;
    failedSince ||= Date.now();
    showLost(error);
  } finally {
    clearTimeout(patience);
    if (asking === mine) {
      asking = null;
      schedule();
    }
  }
}

async function askSnapshots(signal) {
  const partition = wanted.open;
  try {
    return { partition, answer: await ask('/status/snapshots', { partition }, signal) };
  } catch (error) {
    if (error.status === undefined) {
      throw error;
    }
    return { partition, problem: error.message };
  }
}

// Later and later while nobody answers; not at all while nobody looks.
function schedule() {
  clearTimeout(timer);
  if (paused || document.hidden) {
    nextAt = 0;
    return;
  }
  const wait = Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.max(0, failures - 1));
  nextAt = Date.now() + wait;
  timer = setTimeout(refresh, wait);
}

/* Whether somebody answers. */

function showLost(error) {
  byId('lost').hidden = false;
  say(byId('lost-text'), error.status === undefined
    ? `The daemon does not answer since ${moment(failedSince)}. What is shown is older.`
    : `The daemon refuses to answer: ${error.message}`);
  showClock();
}

function showClock() {
  const parts = [];
  if (answeredAt) {
    parts.push(`updated ${ago(Date.now(), answeredAt)}`);
  }
  if (paused) {
    parts.push('paused');
  } else if (failures > 0 && nextAt) {
    parts.push(`next try in ${duration((nextAt - Date.now()) / 1000)}`);
  }
  say(byId('updated'), parts.join(', ') || 'loading');
}

function show() {
  failedSince = 0;
  byId('lost').hidden = true;
  showHealth();
  showRunning();
  showPartitions();
  showClock();
}

/* What the reader does. */

function want(change) {
  Object.assign(wanted, { page: 1 }, change);
  writeAddress();
  refresh();
}

function begin() {
  readAddress();
  for (const [name, label] of FILTERS) {
    const button = element('button', '', label, ' ', element('b', '', ''));
    button.type = 'button';
    button.id = `only-${name}`;
    button.setAttribute('aria-pressed', String(wanted.only === name));
    button.addEventListener('click', () => want({ only: name }));
    byId('filters').append(button);
  }
  let typing = 0;
  byId('search').addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => want({ search: byId('search').value.trim() }), SEARCH_PAUSE_MS);
  });
  byId('tools').addEventListener('submit', (event) => event.preventDefault());
  byId('sort').addEventListener('change', () => want({ sort: byId('sort').value }));
  byId('first').addEventListener('click', () => want({ page: 1 }));
  byId('previous').addEventListener('click', () => want({ page: Math.max(1, wanted.page - 1) }));
  byId('next').addEventListener('click', () => want({ page: wanted.page + 1 }));
  byId('last').addEventListener('click', () => want({ page: last?.pages ?? 1 }));
  byId('retry').addEventListener('click', refresh);
  byId('pause').addEventListener('click', () => {
    paused = !paused;
    byId('pause').setAttribute('aria-pressed', String(paused));
    if (paused) {
      schedule();
    } else {
      refresh();
    }
    showClock();
  });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      schedule();
    } else if (!paused) {
      refresh();
    }
  });
  setInterval(showClock, 1000);
  refresh();
}

begin();
