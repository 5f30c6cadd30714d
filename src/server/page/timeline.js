// The retained snapshots of one partition: a drawing for the eye, and a table that says all of it.

const SVG = 'http://www.w3.org/2000/svg';

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  return made;
}

// Its marks in words.
function marks(snapshot, life) {
  const words = [snapshot.proven ? 'proven' : 'not proven'];
  if (snapshot.pinned) {
    words.push('pinned');
  }
  if (snapshot.quarantined) {
    words.push('quarantined');
  }
  if (snapshot.topic_id !== life.topicId || snapshot.incarnation !== life.incarnation) {
    words.push('of a former life');
  }
  return words.join(', ');
}

function kind(snapshot) {
  return snapshot.increment === 0 ? 'full' : `increment ${snapshot.increment}`;
}

function mark(snapshot, percent, label) {
  // An inner drawing: its place is a share of the width, its shape is not.
  const place = drawn('svg', { x: `${percent}%`, y: 17, overflow: 'visible' });
  const title = drawn('title', {});
  title.textContent = label;
  place.append(title);
  if (snapshot.quarantined) {
    place.append(drawn('path', { class: 'mark quarantined', d: 'M-5-5 5 5M-5 5 5-5' }));
    return place;
  }
  const state = snapshot.proven ? '' : ' unproven';
  place.append(snapshot.increment === 0
    ? drawn('rect', { class: `mark${state}`, x: -5, y: -8, width: 10, height: 16, rx: 1 })
    : drawn('circle', { class: `mark${state}`, r: 4.5 }));
  if (snapshot.pinned) {
    place.append(drawn('path', { class: 'pin', d: 'M-7 12H7' }));
  }
  return place;
}

function timeline(answer, thresholdSecs, life) {
  const figure = element('figure', 'timeline');
  const now = answer.now_unix_ms;
  const made = answer.snapshots.map((snapshot) => snapshot.created_at_unix_ms);
  const oldest = Math.min(...made);
  const span = Math.max(now - oldest, 1);
  // A little room at both ends; a clock that runs ahead does not leave the drawing.
  const place = (at) => 2 + 96 * Math.min(1, Math.max(0, (at - oldest) / span));
  const svg = drawn('svg', { role: 'img' });
  svg.setAttribute('aria-label', `${plural(made.length, 'snapshot', 'snapshots')} from ${moment(oldest)} until now; the table has them all`);
  svg.append(drawn('line', { class: 'axis', x1: 0, x2: '100%', y1: 17, y2: 17 }));
  const limit = now - thresholdSecs * 1000;
  if (limit > oldest) {
    const at = `${place(limit)}%`;
    svg.append(drawn('line', { class: 'limit', x1: at, x2: at, y1: 2, y2: 32 }));
  }
  // For the eye and the pointer; to others the table says the same.
  const shapes = drawn('g', { 'aria-hidden': 'true' });
  svg.append(shapes);
  for (const snapshot of [...answer.snapshots].reverse()) {
    const at = snapshot.created_at_unix_ms;
    shapes.append(mark(snapshot, place(at), `${moment(at)}, ${kind(snapshot)}, ${marks(snapshot, life)}`));
  }
  const legend = 'tall: full · round: incremental · hollow: not proven · cross: quarantined · underlined: pinned';
  const dashed = limit > oldest ? ` · dashed: ${duration(thresholdSecs)} ago, the time threshold` : '';
  figure.append(svg,
    element('div', 'ends', element('span', '', ago(now, oldest)), element('span', '', 'now')),
    element('figcaption', 'muted', element('small', '', legend + dashed)));
  return figure;
}

function snapshotTable(answer, name, life) {
  const head = ['Made', 'Ends at index', 'Term', 'Kind', 'Stored', 'Marks', 'Id'];
  const numbers = new Set([1, 2, 4]);
  const table = element('table', 'cards', element('caption', 'hidden', `Snapshots of ${name} in the store, newest first`));
  table.setAttribute('role', 'table');
  const cell = (tag, role, column, content) => {
    const made = element(tag, numbers.has(column) ? 'number' : '', ...content);
    made.setAttribute('role', role);
    made.dataset.label = head[column];
    return made;
  };
  const rowOf = (cells) => {
    const made = element('tr', '', ...cells);
    made.setAttribute('role', 'row');
    return made;
  };
  const headRow = rowOf(head.map((text, column) => {
    const made = cell('th', 'columnheader', column, [text]);
    made.scope = 'col';
    return made;
  }));
  const body = element('tbody', '');
  for (const snapshot of answer.snapshots) {
    const at = snapshot.created_at_unix_ms;
    const added = snapshot.increment === 0 ? [] : [element('small', '', `${bytes(snapshot.new_stored_bytes)} of it new`)];
    const row = [
      [moment(at), ' ', element('small', '', ago(answer.now_unix_ms, at))],
      [count(snapshot.last_included.index)],
      [count(snapshot.last_included.term)],
      [kind(snapshot)],
      [bytes(snapshot.stored_bytes), ...added],
      [marks(snapshot, life)],
      [element('code', '', snapshot.snapshot_id)],
    ];
    const cells = row.map((content, column) => {
      const made = cell(column === 0 ? 'th' : 'td', column === 0 ? 'rowheader' : 'cell', column, content);
      if (column === 0) {
        made.scope = 'row';
      }
      return made;
    });
    cells[6].classList.add('wide');
    body.append(rowOf(cells));
  }
  const group = element('thead', '', headRow);
  group.setAttribute('role', 'rowgroup');
  body.setAttribute('role', 'rowgroup');
  table.append(group, body);
  return table;
}

// What is shown of a partition's snapshots.
function retained(answer, name, thresholdSecs, life) {
  if (!answer.listed) {
    return [element('p', 'muted', 'Not known yet: the daemon has not read this folder of the store since it started.')];
  }
  const shown = answer.unreadable.map((one) => element('p', 'state bad', `${one.snapshot_id} cannot be read: ${one.problem}`));
  if (answer.snapshots.length === 0) {
    return [...shown, element('p', 'muted', 'There is none.')];
  }
  shown.push(timeline(answer, thresholdSecs, life), snapshotTable(answer, name, life));
  if (answer.left_out > 0) {
    shown.push(element('p', 'muted', `${plural(answer.left_out, 'older one is', 'older ones are')} not shown: chronik-snapshotd list has them.`));
  }
  return shown;
}
