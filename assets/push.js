/* The admin's page of the push. It asks for new samples once a step while it is seen; it does not subscribe, since
   what shows whether the push works must not depend on it. */
(function () {
  'use strict';
  var page = Longshore.page;
  var SVG = 'http://www.w3.org/2000/svg';
  var WIDTH = 300, HEIGHT = 48, TOP = 4;
  var samples = [];
  var timer = null, asking = false;

  function sum(counts) {
    return page.ways.reduce(function (total, way) { return total + (counts[way] || 0); }, 0);
  }

  function rounded(value) {
    if (value === null || value === undefined) { return Longshore.text('js.push.none'); }
    return value >= 100 || value === Math.round(value) ? String(Math.round(value)) : value.toFixed(1);
  }

  function millis(value) {
    if (value === null || value === undefined) { return Longshore.text('js.push.none'); }
    return Longshore.text('js.push.millis', { value: value >= 10 ? Math.round(value) : value.toFixed(2) });
  }

  function shape(tag, attributes) {
    var made = document.createElementNS(SVG, tag);
    Object.keys(attributes).forEach(function (name) { made.setAttribute(name, attributes[name]); });
    return made;
  }

  /* One place a sample, the newest at the right edge. */
  function left(index, count) { return WIDTH - (count - 1 - index) * WIDTH / (page.kept - 1); }

  function top(value, most) { return HEIGHT - 1 - (HEIGHT - 1 - TOP) * (most ? value / most : 0); }

  /* A line breaks where there is no value. */
  function path(values, most) {
    var open = false;
    return values.map(function (value, index) {
      if (value === null) { open = false; return ''; }
      var command = open ? 'L' : 'M';
      open = true;
      return command + left(index, values.length).toFixed(1) + ' ' + top(value, most).toFixed(1);
    }).join('');
  }

  function area(values, most) {
    var line = path(values, most);
    if (!line) { return ''; }
    return line + 'L' + WIDTH + ' ' + HEIGHT + 'L' + left(0, values.length).toFixed(1) + ' ' + HEIGHT + 'Z';
  }

  function most(lists) {
    return lists.reduce(function (found, values) { return Math.max.apply(null, [found].concat(values)); }, 0);
  }

  function canvas(id, greatest, now) {
    var holder = Longshore.byId(id + '-chart');
    var svg = shape('svg', { viewBox: '0 0 ' + WIDTH + ' ' + HEIGHT, preserveAspectRatio: 'none', role: 'img' });
    svg.setAttribute('aria-label', Longshore.text('js.push.chart', { most: greatest, now: now }));
    svg.appendChild(shape('path', { 'class': 'base', d: 'M0 ' + (HEIGHT - 0.5) + 'H' + WIDTH }));
    Longshore.clear(holder);
    holder.appendChild(svg);
    return svg;
  }

  /* lists: one or two lines of the same scale; the first is filled. */
  function drawLines(id, lists, say) {
    var scale = most(lists);
    var newest = lists[0].length ? lists[0][lists[0].length - 1] : null;
    var svg = canvas(id, say(scale), say(newest));
    svg.appendChild(shape('path', { 'class': 'area', d: lists.length > 1 ? '' : area(lists[0], scale) }));
    lists.forEach(function (values, index) {
      svg.appendChild(shape('path', { 'class': index ? 'line second' : 'line', d: path(values, scale) }));
    });
  }

  /* One bar for each sample in which something happened. */
  function drawBars(id, values) {
    var scale = most([values]);
    var svg = canvas(id, rounded(scale), rounded(values.length ? values[values.length - 1] : 0));
    var width = WIDTH / page.kept;
    values.forEach(function (value, index) {
      if (!value) { return; }
      var y = Math.min(top(value, scale), HEIGHT - 4);
      svg.appendChild(shape('rect', { 'class': 'bar', x: (WIDTH - (values.length - index) * width).toFixed(1), y: y.toFixed(1), width: (width * 0.8).toFixed(1), height: (HEIGHT - y).toFixed(1) }));
    });
    Longshore.byId(id + '-chart').className = scale ? 'chart trouble' : 'chart';
  }

  function column(pick) { return samples.map(pick); }

  function figures(id, parts) {
    var holder = Longshore.byId(id);
    holder.className = parts.length > 1 ? 'figures two' : 'figures';
    Longshore.clear(holder);
    parts.forEach(function (part) {
      var small = part.label ? Longshore.element('small', { text: part.label }) : null;
      var figure = Longshore.element('span', { 'class': 'figure', text: part.value });
      if (small) { figure.appendChild(small); }
      holder.appendChild(figure);
    });
  }

  function drawTiles() {
    var last = samples[samples.length - 1];
    figures('present', [{ value: rounded(sum(last.present)) }]);
    drawLines('present', [column(function (s) { return sum(s.present); })], rounded);
    ['published', 'delivered'].forEach(function (key) {
      figures(key, [{ value: rounded(last[key]) }]);
      drawLines(key, [column(function (s) { return s[key]; })], rounded);
    });
    figures('latency', [{ value: millis(last.p50), label: Longshore.text('js.push.p50') }, { value: millis(last.p99), label: Longshore.text('js.push.p99') }]);
    drawLines('latency', [column(function (s) { return s.p50; }), column(function (s) { return s.p99; })], millis);
    ['gaps', 'overflows', 'superseded', 'refused'].forEach(function (key) {
      var values = column(function (s) { return s[key]; });
      figures(key, [{ value: rounded(values.reduce(function (total, value) { return total + value; }, 0)) }]);
      drawBars(key, values);
    });
    page.ways.forEach(function (way) {
      var cells = document.querySelector('[data-way="' + way + '"]').cells;
      cells[1].textContent = rounded(last.present[way]);
      cells[2].textContent = rounded(last.begun[way]);
    });
  }

  function share(part) {
    var svg = shape('svg', { 'class': 'share', viewBox: '0 0 100 4', width: '100%', height: '4', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    svg.appendChild(shape('rect', { x: 0, y: 0, width: Math.max(1, 100 * part), height: 4, rx: 2 }));
    return svg;
  }

  function drawRooms(answer) {
    var table = Longshore.byId('rooms');
    var body = table.tBodies[0];
    var greatest = answer.fullest.length ? answer.fullest[0].clients : 1;
    Longshore.clear(body);
    answer.fullest.forEach(function (room) {
      var cells = table.tHead.rows[0].cells;
      var name = Longshore.element('td', { 'data-label': cells[0].textContent }, [Longshore.element('span', { text: room.room })]);
      name.appendChild(share(room.clients / greatest));
      body.appendChild(Longshore.element('tr', {}, [name, Longshore.element('td', { 'class': 'number', 'data-label': cells[1].textContent, text: String(room.clients) })]));
    });
    table.hidden = !answer.fullest.length;
    Longshore.byId('no-rooms').hidden = !!answer.fullest.length;
    Longshore.byId('census').textContent = Longshore.text('js.push.census', { clients: answer.clients, rooms: answer.rooms, polls: answer.polls });
  }

  function take(answer) {
    var newest = samples.length ? samples[samples.length - 1].number : 0;
    var first = answer.samples.length ? answer.samples[0].number : 0;
    if (first && first <= newest) { samples = []; }       // another process counts from 1
    samples = samples.concat(answer.samples).slice(-page.kept);
    if (samples.length) { drawTiles(); }
    drawRooms(answer);
  }

  function later() {
    window.clearTimeout(timer);
    timer = document.hidden ? null : window.setTimeout(ask, page.step);
  }

  function ask() {
    if (asking) { return; }
    var after = samples.length ? samples[samples.length - 1].number : 0;
    asking = true;
    Longshore.request('GET', '/api/v1/push?after=' + after, { timeout: 10000 }, function (error, answer) {
      asking = false;
      if (error && (error.status === 401 || error.status === 403)) { return Longshore.showLive('denied'); }
      Longshore.showLive(error ? 'waiting' : 'on');
      if (!error) { take(answer); }
      later();
    });
  }

  document.addEventListener('visibilitychange', function () {
    if (document.hidden) { later(); Longshore.showLive('off'); } else { ask(); }
  });
  ask();
}());
