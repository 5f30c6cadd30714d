// The table of partitions: one element a partition, kept as long as the partition is shown.

const HELD_BY = {
  due: 'nothing: it is about to be cut',
  held: 'the broker: a replica or a reader still needs these entries',
  disabled: 'COMPACT=false',
  paused: 'the pause',
  term_mismatch: 'a divergence: the broker has another term where the snapshot ends',
  failing: 'the failures: see the last error',
};

function cell(label, isHead, className) {
  const made = element(isHead ? 'th' : 'td', className);
  made.setAttribute('role', isHead ? 'rowheader' : 'cell');
  if (isHead) {
    made.scope = 'row';
  } else {
    made.dataset.label = label;
  }
  return made;
}

function row(cells) {
  const made = element('tr', '', ...cells);
  made.setAttribute('role', 'row');
  return made;
}

function stateOf(one) {
  if (one.unprotected) {
    return ['bad', 'unprotected'];
  }
  if (one.consecutive_failures > 0) {
    return ['bad', `failing, ${count(one.consecutive_failures)}×`];
  }
  if (one.deletion_blocked) {
    return ['warn', 'deletion blocked'];
  }
  if (one.last_drill_problem) {
    return ['warn', 'drill failed'];
  }
  if (one.paused) {
    return ['still', 'paused'];
  }
  return one.newest_last_included ? ['good', 'ok'] : ['', 'no snapshot'];
}

function newRow(name) {
  const labels = ['Partition', 'State', 'Role', 'Snapshot age', 'Entries since', 'Log', 'Truncation debt', 'Activity'];
  const cells = labels.map((label, at) => cell(label, at === 0, at >= 3 && at <= 6 ? 'number' : ''));
  const open = element('button', 'open', name);
  open.type = 'button';
  open.setAttribute('aria-expanded', 'false');
  open.addEventListener('click', () => toggle(name));
  cells[0].append(open);
  cells[1].append(element('span', 'state'));
  for (const at of [3, 4]) {
    const bar = element('span', 'bar', element('i', ''));
    bar.setAttribute('aria-hidden', 'true');
    cells[at].append(element('span', ''), bar);
  }
  for (const at of [5, 6]) {
    cells[at].append(element('span', ''), ' ', element('small', ''));
  }
  return { row: row(cells), open, cells, detail: null };
}

function level(where, value, threshold, matters) {
  const bar = where.children[1];
  const share = threshold > 0 ? value / threshold : 0;
  bar.firstChild.style.width = `${Math.min(100, Math.round(100 * share))}%`;
  bar.classList.toggle('over', matters && share >= 1);
}

function fill(made, one) {
  const { daemon, now_unix_ms: now } = last;
  const [, state, role, age, entries, log, debt, activity] = made.cells;
  const [sign, word] = stateOf(one);
  state.firstChild.className = `state ${sign}`;
  say(state.firstChild, word);
  say(role, one.role);
  const at = one.newest_snapshot_at_unix_ms;
  const ageSecs = at ? (now - at) / 1000 : 0;
  say(age.children[0], at ? duration(ageSecs) : 'none');
  level(age, ageSecs, daemon.time_threshold_secs, one.entries_since_snapshot > 0);
  say(entries.children[0], count(one.entries_since_snapshot));
  level(entries, one.entries_since_snapshot, daemon.log_threshold_entries, true);
  say(log.children[0], count(Math.max(0, one.last_log_index + 1 - one.first_log_index)));
  say(log.children[1], bytes(one.log_size_bytes));
  const owes = one.truncation_debt_entries > 0;
  say(debt.children[0], owes ? count(one.truncation_debt_entries) : '–');
  say(debt.children[1], owes ? bytes(one.truncation_debt_bytes) : '');
  say(activity, one.activity);
}

function facts(one) {
  const now = last.now_unix_ms;
  const list = element('dl', 'facts');
  const fact = (name, text, className) => {
    if (text) {
      list.append(element('dt', '', name), element('dd', className ?? '', text));
    }
  };
  const failures = plural(one.consecutive_failures, 'failure', 'failures');
  fact('Unprotected', one.unprotected && 'Log entries are gone and no proven snapshot covers them.', 'bad');
  fact('Last error', one.last_error && `${one.last_error} (${failures} in a row)`, 'bad');
  fact('Deletion blocked', one.deletion_blocked, 'warn');
  fact('Decision', one.decision);
  fact('Truncation held by', HELD_BY[one.truncation_held_by] ?? (one.truncation_held_by || 'nothing: there is nothing to cut'));
  fact('Log', `first ${count(one.first_log_index)} · applied ${count(one.applied_index)} · last ${count(one.last_log_index)}`);
  const end = one.newest_last_included;
  fact('Newest proven snapshot', end ? `ends at index ${count(end.index)}, term ${count(end.term)}` : 'none known');
  fact('Restore would take', one.restore_estimate_secs ? `about ${duration(one.restore_estimate_secs)}` : 'not known');
  fact('Last drill', one.last_drill_at_unix_ms
    ? `${one.last_drill_outcome}, ${ago(now, one.last_drill_at_unix_ms)}${one.last_drill_problem ? `: ${one.last_drill_problem}` : ''}`
    : 'none since the daemon started', one.last_drill_problem ? 'warn' : '');
  fact('Topic id', one.topic_id);
  return list;
}

function showDetail(made, name, one) {
  if (made.detail === null) {
    const inner = element('td', '');
    inner.colSpan = made.cells.length;
    inner.setAttribute('role', 'cell');
    made.detail = row([inner]);
    made.detail.className = 'detail';
    made.detail.id = 'detail';
    made.open.setAttribute('aria-controls', 'detail');
  }
  // Drawn again only if there is something new to say, and not under the hands of somebody who selects.
  const selection = document.getSelection();
  if (!selection.isCollapsed && made.detail.contains(selection.anchorNode)) {
    return;
  }
  const known = lastSnapshots?.partition === name ? lastSnapshots : null;
  const said = JSON.stringify([one, known?.problem ?? known?.answer.snapshots, known?.answer?.unreadable, Math.floor(last.now_unix_ms / 10000)]);
  if (made.detail.said !== said) {
    made.detail.said = said;
    made.detail.cells[0].replaceChildren(...detailOf(name, one, known));
  }
}

function detailOf(name, one, known) {
  const life = { topicId: one.topic_id, incarnation: last.daemon.incarnation };
  let snapshots = [element('p', 'muted', 'Asking the daemon')];
  if (known?.problem) {
    snapshots = [element('p', 'state bad', known.problem)];
  } else if (known) {
    snapshots = retained(known.answer, name, last.daemon.time_threshold_secs, life);
  }
  return [element('h3', '', 'Details'), facts(one), element('h3', '', 'Retained snapshots'), ...snapshots];
}

function toggle(name) {
  wanted.open = wanted.open === name ? '' : name;
  writeAddress();
  showPartitions();
  refresh();
}

function showPartitions() {
  const { daemon, partitions } = last;
  say(byId('due-age'), `due at ${duration(daemon.time_threshold_secs)}`);
  say(byId('due-entries'), `due at ${count(daemon.log_threshold_entries)}`);
  const body = byId('partitions').tBodies[0];
  const place = [];
  const kept = new Set();
  for (const one of partitions) {
    const name = `${one.topic}/${one.partition}`;
    const made = rows.get(name) ?? newRow(name);
    rows.set(name, made);
    kept.add(name);
    fill(made, one);
    place.push(made.row);
    const opened = wanted.open === name;
    made.open.setAttribute('aria-expanded', String(opened));
    if (opened) {
      showDetail(made, name, one);
      place.push(made.detail);
    } else if (made.detail !== null) {
      made.open.removeAttribute('aria-controls');
      made.detail = null;
    }
  }
  for (const name of [...rows.keys()].filter((each) => !kept.has(each))) {
    rows.delete(name);
  }
  // Only what is elsewhere is moved: an element that is moved loses the focus.
  const stays = new Set(place);
  for (const old of [...body.rows].filter((each) => !stays.has(each))) {
    old.remove();
  }
  place.forEach((each, at) => {
    if (body.rows[at] !== each) {
      body.insertBefore(each, body.rows[at] ?? null);
    }
  });
  showCounts();
}

function showCounts() {
  const { summary, partitions, matching, pages } = last;
  const page = Math.min(wanted.page, pages);
  const from = (page - 1) * PAGE_SIZE;
  byId('partitions').hidden = partitions.length === 0;
  byId('none').hidden = partitions.length > 0;
  const searched = wanted.search || wanted.only !== 'all';
  say(byId('none'), searched ? 'No partition is like that.' : 'The broker has no partition that this daemon looks after.');
  const of = matching === summary.partitions ? '' : ` that match, of ${count(summary.partitions)}`;
  say(byId('shown'), `${count(from + 1)} to ${count(from + partitions.length)} of ${count(matching)}${of}`);
  for (const [name, , key] of FILTERS) {
    const button = byId(`only-${name}`);
    button.setAttribute('aria-pressed', String(wanted.only === name));
    say(button.lastChild, count(summary[key]));
  }
  say(byId('page'), `Page ${count(page)} of ${count(pages)}`);
  byId('pager').hidden = pages === 1;
  byId('first').disabled = page === 1;
  byId('previous').disabled = page === 1;
  byId('next').disabled = page === pages;
  byId('last').disabled = page === pages;
}
