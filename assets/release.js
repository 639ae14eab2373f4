/* A release's page: the flow chart and its logs, live. */
(function () {
  'use strict';
  var page = Longshore.page;
  var text = Longshore.text;
  var api = '/api/v1/releases/' + encodeURIComponent(page.id);
  var MOST_LOG = 500000;       // characters kept on the page
  var ENDED = ['succeeded', 'partial', 'failed', 'cancelled', 'interrupted'];
  var card = Longshore.byId('log-card');
  var output = Longshore.byId('log');
  var caption = Longshore.byId('log-node');
  var hint = Longshore.byId('log-empty');
  var following = !page.selected;      // until the reader chooses a node, the log shown is of the one that runs
  var shown = null;                    // {key, end: bytes read, waiting: messages that came while it was read, or null}

  var flow = Longshore.Flow(Longshore.byId('flow'), page.rows, {
    label: Longshore.byId('flow').getAttribute('data-label'),
    colors: page.colors,
    onSelect: function (key) {
      following = false;
      open(key);
      if (window.history.replaceState) { window.history.replaceState(null, '', '?node=' + encodeURIComponent(key)); }
    }
  });

  function bytes(string) { return unescape(encodeURIComponent(string)).length; }

  /* string without its first count bytes of UTF-8 */
  function skipBytes(string, count) {
    try {
      return decodeURIComponent(escape(unescape(encodeURIComponent(string)).slice(count)));
    } catch (error) {
      return string;               // within a character: rather twice than lost
    }
  }

  /* The node that bears the name of this node's server; its key ends in the server's id too. */
  function serverOf(row) {
    var id = /-\d+$/.exec(row.key);
    var found = null;
    while (id && row && row.key.slice(-id[0].length) === id[0]) {
      found = row;
      row = flow.row(row.parent);
    }
    return found;
  }

  function describe(key) {
    var row = flow.row(key);
    var server = row && serverOf(row);
    var name = server && server !== row ? server.text + ' · ' + row.text : row && row.text;
    caption.textContent = row ? name + ' · ' + text('state.' + row.state) : '';
  }

  function say(message) {
    hint.textContent = message;
    hint.hidden = !message;
    card.setAttribute('data-empty', String(Boolean(message)));
  }

  function append(string) {
    var atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
    output.appendChild(document.createTextNode(string));
    if (output.textContent.length > MOST_LOG) {
      output.textContent = text('js.log.cut') + '\n' + output.textContent.slice(-MOST_LOG / 2);
    }
    if (atEnd) { output.scrollTop = output.scrollHeight; }
  }

  function open(key) {
    var mine = shown = { key: key, end: 0, waiting: [] };
    flow.select(key);
    describe(key);
    say(text('js.log.loading'));
    Longshore.request('GET', api + '/nodes/' + encodeURIComponent(key) + '/log', { accept: 'text/plain' }, function (error, log, xhr) {
      if (shown !== mine) { return; }
      if (error && error.status !== 404) {
        say(text('js.log.failed'));
        return;
      }
      var start = Number(xhr.getResponseHeader('X-Log-Offset')) || 0;
      var body = error ? '' : String(log || '');
      output.textContent = start ? text('js.log.cut') + '\n' : '';
      mine.end = start + bytes(body);
      say(body ? '' : text('js.log.empty'));
      if (body) { append(body); }
      output.scrollTop = output.scrollHeight;
      var came = mine.waiting;
      mine.waiting = null;
      came.forEach(addLog);
    });
  }

  /* A log message: what is already shown is dropped by its offset, a hole reads the log anew. */
  function addLog(piece) {
    if (!shown || piece.key !== shown.key) { return; }
    if (shown.waiting) {
      shown.waiting.push(piece);
      return;
    }
    var length = bytes(piece.text);
    if (piece.offset + length <= shown.end) { return; }
    if (piece.offset > shown.end) { return open(shown.key); }
    say('');
    append(skipBytes(piece.text, shown.end - piece.offset));
    shown.end = piece.offset + length;
  }

  function follow(key) {
    if (following && (!shown || shown.key !== key)) { open(key); }
  }

  function setState(state) {
    var head = Longshore.byId('release');
    if (!state || head.getAttribute('data-state') === state) { return; }
    head.setAttribute('data-state', state);
    Longshore.setBadge(Longshore.byId('release-badge').querySelector('.badge'), state);
    // Which buttons there are, and the times, the server knows.
    if (state === 'running' || ENDED.indexOf(state) >= 0) { refresh(); }
    dropFlash(state);
  }

  function refresh() {
    Longshore.refresh(['release-actions', 'release-error', 'release-lead', 'release-facts']);
  }

  /* "Being cancelled" is no longer true once it has ended. */
  function dropFlash(state) {
    var flash = Longshore.byId('flash');
    if (flash && ENDED.indexOf(state) >= 0) { flash.parentNode.removeChild(flash); }
  }

  function applyNode(node) {
    if (!flow.apply(node)) { return; }
    if (shown && shown.key === node.key) { describe(node.key); }
    if (node.key === 'download' && node.state === 'succeeded') { refresh(); }   // now the commit is known
    if (node.state === 'running' || node.state === 'failed') { follow(node.key); }
    if (node.state === 'failed') { following = false; }      // the cause stays in sight
  }

  function reload() {
    Longshore.request('GET', api + '/tree', {}, function (error, rows) {
      if (error) { return; }
      var known = flow.keys().length === rows.length && rows.every(function (row) { return flow.row(row.key); });
      if (known) { rows.forEach(applyNode); } else { flow.load(rows); }
      if (shown) { open(shown.key); }
    });
    Longshore.request('GET', api, {}, function (error, release) { if (!error) { setState(release.state); } });
  }

  function firstToShow() {
    var states = ['failed', 'running', 'interrupted'];
    for (var i = 0; i < states.length; i += 1) {
      for (var j = 0; j < page.rows.length; j += 1) {
        if (page.rows[j].state === states[i]) { return page.rows[j].key; }
      }
    }
    return null;
  }

  dropFlash(page.state);
  var first = page.selected || firstToShow();
  if (first) { open(first); }

  Longshore.subscribe({
    rooms: ['release/' + page.id],
    after: page.cursor,
    onState: Longshore.showLive,
    onGap: reload,
    onMessage: function (message) {
      if (message.kind === 'node') { applyNode(message.data); }
      if (message.kind === 'log') { addLog(message.data); }
      if (message.kind === 'release') { setState(message.data.state); }
    }
  });
}());
