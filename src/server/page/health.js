// Health at a glance, and what runs.

const MOMENT_MS = 5000;
// Twice the longest CHECK_INTERVAL_SECS.
const TICK_LATE_MS = 600000;

// What is read out when it changes: moments, not ages, which change all the time.
function problemsOf({ daemon, summary, now_unix_ms: now }) {
  const problems = [];
  const some = (number, one, many) => {
    if (number > 0) {
      problems.push(`${plural(number, 'partition', 'partitions')} ${number === 1 ? one : many}`);
    }
  };
  if (!daemon.snapshots_enabled) {
    // Nobody asks broker or store.
    return problems;
  }
  if (!daemon.broker_connected) {
    problems.push(daemon.last_tick_at_unix_ms === 0
      ? 'The broker has not answered yet.'
      : `The broker does not answer. It last did at ${moment(daemon.last_tick_at_unix_ms)}.`);
  }
  if (daemon.broker_connected && now - daemon.last_tick_at_unix_ms > TICK_LATE_MS) {
    problems.push(`The loop stands still: it last listed the broker’s replicas at ${moment(daemon.last_tick_at_unix_ms)}.`);
  }
  if (!daemon.store_available && lookedAtStore(daemon, summary)) {
    problems.push('The store does not answer.');
  }
  if (daemon.identity_problem) {
    problems.push(`Nothing is written or deleted: ${daemon.identity_problem}`);
  }
  some(summary.unprotected, 'is unprotected: log is gone that no proven snapshot covers.', 'are unprotected: log is gone that no proven snapshot covers.');
  some(summary.failing, 'fails: its last visit ended with an error.', 'fail: their last visits ended with an error.');
  some(summary.deletion_blocked, 'has a folder in which nothing is deleted.', 'have folders in which nothing is deleted.');
  some(summary.drill_failed, 'has a snapshot that its last drill could not restore.', 'have snapshots that their last drills could not restore.');
  return problems;
}

// Before the first visit has ended nobody knows.
function lookedAtStore(daemon, summary) {
  return summary.partitions > 0 && daemon.in_flight + daemon.queued === 0 || summary.failing > 0;
}

function showHealth() {
  const { daemon, summary, now_unix_ms: now } = last;
  const problems = problemsOf(last);
  const verdict = byId('verdict');
  const off = !daemon.snapshots_enabled;
  const grave = summary.unprotected > 0 || daemon.identity_problem || !daemon.broker_connected;
  const [sign, word] = problems.length > 0 ? [grave ? 'bad' : 'warn', 'Needs attention']
    : off ? ['still', 'Switched off: only Bootstrap is served (ENABLED=false)'] : ['good', 'Healthy'];
  verdict.className = `state ${sign}`;
  say(verdict, word);
  const list = byId('problems');
  if (list.dataset.said !== JSON.stringify(problems)) {
    list.dataset.said = JSON.stringify(problems);
    list.replaceChildren(...problems.map((text) => element('li', '', text)));
  }
  document.title = `${problems.length > 0 ? `(${problems.length}) ` : ''}broker ${daemon.broker_id} · chronik-snapshotd`;
  say(byId('who'), daemon.cluster_id
    ? `broker ${daemon.broker_id} of ${daemon.cluster_id}, incarnation ${daemon.incarnation}` : 'The broker is not known yet.');
  say(byId('version'), `version ${daemon.version}, up for ${duration((now - daemon.started_at_unix_ms) / 1000)}`);
  const oldest = summary.oldest_snapshot_at_unix_ms;
  const tick = daemon.last_tick_at_unix_ms;
  const store = lookedAtStore(daemon, summary) || daemon.store_available;
  figures([
    ['Broker', off ? 'not asked' : daemon.broker_connected ? 'answers' : 'does not answer', tick ? `listed ${ago(now, tick)}` : 'not listed yet'],
    ['Store', store ? (daemon.store_available ? 'answers' : 'does not answer') : 'not known yet',
      daemon.identity_problem ? 'not this cluster’s' : store ? 'this cluster’s' : ''],
    ['Partitions', count(summary.partitions), `${count(summary.without_snapshot)} without a snapshot`],
    ['Oldest snapshot', oldest ? duration((now - oldest) / 1000) : 'none', `due at ${duration(daemon.time_threshold_secs)}`],
    ['Logs', bytes(summary.log_size_bytes), `due at ${count(daemon.log_threshold_entries)} entries`],
    ['Truncation debt', bytes(summary.truncation_debt_bytes), plural(summary.truncation_debt_entries, 'entry', 'entries')],
    ['Work', `${count(last.running.length)} running`, `${count(daemon.queued)} waiting`],
    ['Drills', daemon.drill_interval_secs ? `every ${duration(daemon.drill_interval_secs)}` : 'off',
      daemon.drilling ? `now ${daemon.drilling}` : ''],
  ]);
}

function figures(list) {
  const where = byId('figures');
  while (where.children.length < list.length) {
    where.append(element('div', '', element('dt', ''), element('dd', '', element('span', ''), element('small', ''))));
  }
  list.forEach(([name, value, more], at) => {
    const [term, said] = where.children[at].children;
    say(term, name);
    say(said.children[0], value);
    say(said.children[1], more);
  });
}

// What moves no bytes and is over in a moment is only counted: rows that come and go push the page around.
function isShown(work) {
  return work.total_bytes > 0 || last.now_unix_ms - work.began_at_unix_ms >= MOMENT_MS;
}

function showRunning() {
  const works = last.running.filter(isShown);
  const brief = last.running.length - works.length;
  byId('running').hidden = works.length === 0;
  const besides = [];
  if (brief > 0) {
    besides.push(`${plural(brief, 'short visit', 'short visits')} ${brief === 1 ? 'runs' : 'run'}`);
  }
  if (last.daemon.queued > 0) {
    besides.push(`${count(last.daemon.queued)} ${last.daemon.queued === 1 ? 'waits' : 'wait'}`);
  }
  say(byId('running-brief'), besides.join(', ') || (works.length === 0 ? 'Nothing runs.' : ''));
  const body = byId('running').tBodies[0];
  while (body.rows.length > works.length) {
    body.rows[body.rows.length - 1].remove();
  }
  while (body.rows.length < works.length) {
    const cells = ['Partition', 'Work', 'Stage', 'Progress', 'For'].map((label, at) => cell(label, at === 0, at === 4 ? 'number' : ''));
    cells[3].append(element('progress', ''), element('span', ''));
    body.append(row(cells));
  }
  works.forEach((work, at) => {
    const [partition, kindCell, stage, progress, since] = body.rows[at].cells;
    const name = `${work.topic}/${work.partition}`;
    say(partition, name);
    say(kindCell, work.kind);
    say(stage, work.stage);
    const [bar, text] = progress.children;
    const known = work.total_bytes > 0;
    bar.hidden = !known;
    bar.max = Math.max(1, work.total_bytes);
    bar.value = Math.min(work.done_bytes, work.total_bytes);
    bar.setAttribute('aria-label', `Progress of ${name}`);
    say(text, known ? `${Math.floor(100 * bar.value / bar.max)} % of ${bytes(work.total_bytes)}` : '–');
    say(since, duration((last.now_unix_ms - work.began_at_unix_ms) / 1000));
  });
}
