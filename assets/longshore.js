/* Longshore.subscribe follows rooms by what gets through: WebSocket, event stream, long or plain polling; see
   docs/push.md. ES5, for any page. With longshore-tabs.js tabs share one connection. */
var Longshore = (function () {
'use strict';

var PROOF_MS = 4000;  // for a transport's proof
var PATIENCE_MS = 10000;  // for an answer, past the hold
var RETRY_MS = 500;
var MOST_RETRY_MS = 20000;
var DENIED_MS = 60000;
var POLL_MS = 3000;  // between plain polls
var HIDDEN_MS = 30000;  // between polls that nobody sees
var WATCH_MS = 20000;  // between looks at a stream
var CLIMB_MS = 600000;  // then a better transport is tried again; doubles
var KINDS = ['message', 'node', 'log', 'release', 'project', 'vote', 'presence', 'cursor', 'gap', 'retry'];
var scripts = document.getElementsByTagName('script');
var base = /^(.*)\/assets\/longshore\.js|/.exec((document.currentScript || scripts[scripts.length - 1]).src)[1] || '';

function now() { return Date.now(); }
function unique() { return Math.random().toString(36).slice(2, 12); }
function backoff(failures) { return Math.random() * Math.min(MOST_RETRY_MS, RETRY_MS * Math.pow(2, failures)); }
function within(all) { return function (one) { return all.indexOf(one) >= 0; }; }

/* At a cursor's end; may pass 2^53. */
function number(cursor) { return /\.(\d+)$|$/.exec(cursor)[1] || ''; }
function epoch(cursor) { return cursor.split('.')[0]; }
function isAfter(id, last) { return !last || id.length > last.length || (id.length === last.length && id > last); }

function parse(text) { try { return JSON.parse(text) || {}; } catch (error) { return {}; } }

/* localStorage may be missing, full or forbidden. Reads without a value. */
function stored(key, value) {
  try {
    if (value) { localStorage.setItem(key, JSON.stringify(value)); }
    return JSON.parse(localStorage.getItem(key));
  } catch (error) { return null; }
}

/* done(status, JSON, Retry-After in ms); gives what aborts. */
function get(url, patience, done) {
  var xhr = new XMLHttpRequest();
  var timer = setTimeout(function () { abort(); done(0, {}, 0); }, patience);
  function abort() {
    clearTimeout(timer);
    xhr.onload = xhr.onerror = null;
    xhr.abort();
  }
  xhr.open('GET', url, true);
  xhr.onload = xhr.onerror = function () {
    clearTimeout(timer);
    done(xhr.status, parse(xhr.responseText), xhr.getResponseHeader('Retry-After') * 1000 || 0);
  };
  xhr.send();
  return abort;
}

function asReply(said, cursor) {
  return { cursor: cursor, gap: said.gap || said.rooms, retry: said.retry, messages: said.id ? [said] : [] };
}
/* Streams tell frame(reply, whether that proves both directions) and end(). */
var OPEN = {
  websocket: function (url, frame, end) {
    var link = document.createElement('a');
    link.href = url('/ws');
    var socket = new WebSocket(link.href.replace(/^http/, 'ws'));
    function ping() { socket.send('{"ping":1}'); }
    socket.onopen = ping;  // proxies answer the handshake and swallow frames
    socket.onmessage = function (event) {
      var said = parse(event.data);
      frame(asReply(said, said.cursor), 'pong' in said);
    };
    socket.onclose = end;
    return { ping: ping, close: function () { socket.onopen = null; socket.close(); } };
  },
  sse: function (url, frame, end) {
    var events = new EventSource(url('/events'));
    KINDS.forEach(function (kind) {
      events.addEventListener(kind, function (event) { frame(asReply(parse(event.data), event.lastEventId), true); });
    });
    events.onerror = end;
    return { close: function () { events.close(); } };
  }
};

function subscribe(options) {
  var order = options.transports || ['websocket', 'sse', 'longpoll', 'poll'];
  var may = within(order);
  var ways = order.filter(function (way) { return OPEN[way]; });
  var polls = may('longpoll') || may('poll');
  var host = options.url === undefined ? base : options.url;
  var ours = within(options.rooms);
  var key = 'longshore ' + host + ' ' + order;
  var memory = stored(key) || {};  // way: what worked; next: when to climb
  var at = memory.next > now() ? ways.concat(memory.way).indexOf(memory.way) : 0;
  var cuts = at && memory.way === 'poll' ? 3 : 0;  // polls that were cut or not held
  var holds, flight, began, timer, told, isOpen, tabs, notBefore = 0, failures = 0, drops = 0, reopenAt = 0;
  var start = options.after || 'now', last = number(start);
  // for longshore-tabs.js
  var link = {
    options: options, host: host, order: order, names: [options.client || 'tab-' + unique()], rooms: options.rooms,
    afters: [start], cursor: start, stream: null, live: '', tell: tell, wake: wake, restart: restart
  };

  function call(name, one, two) {
    try { if (options[name]) { options[name](one, two); } } catch (error) { console.error(error); }
  }
  function mayHold() { return may('longpoll') && (cuts < 3 || !may('poll')); }
  function isSeen() { return !document.hidden || (tabs && tabs.isSeen()); }
  function tell(state) {
    var by = state !== 'on' ? '' : link.live || (mayHold() ? 'longpoll' : 'poll');
    if (told === state + by) { return; }
    told = state + by;
    if (tabs) { tabs.tell(state); }
    call('onState', state, by);
  }

  /* The next page begins there. */
  function settle(way) {
    if (memory.way === way && memory.next > now()) { return; }
    var pause = memory.way === way ? Math.min(memory.pause * 2, 24 * CLIMB_MS) : CLIMB_MS;
    stored(key, memory = { way: way, next: now() + pause, pause: pause });
  }

  /* Sources overlap, each from a point reached: by its id a message is taken once. */
  function take(reply) {
    var next = reply.gap || !isAfter(number(link.cursor), number(reply.cursor)) ? reply.cursor : link.cursor;
    var gap = (reply.gap || []).filter(ours);
    if (tabs) { tabs.pass(reply, next); }
    if (reply.gap && epoch(next) !== epoch(link.cursor)) { last = ''; }  // ids begin anew
    if (gap.length) { call('onGap', gap); }
    reply.messages.forEach(function (message) {
      if (isOpen && ours(message.room) && isAfter(message.id, last)) {
        last = message.id;
        call('onMessage', message);
      }
    });
    link.cursor = next;
    link.afters = [next];
    if (isAfter(number(next), last)) { last = number(next); }
  }

  function stop() {
    clearTimeout(timer);
    flight = flight && flight();
  }
  function later(asked, pause) {
    stop();
    notBefore = asked ? now() + asked : 0;
    timer = setTimeout(poll, asked || pause, 0);
  }
  function restart() {
    if (link.stream) { link.stream.drop(); }
    if (isOpen) { poll(0); }
  }
  function url(path) {
    return host + path + '?' + ['name', 'room', 'after'].map(function (key) {
      return link[key + 's'].map(function (value) { return key + '=' + encodeURIComponent(value); }).join('&');
    }).join('&');
  }

  /* The first is not held: it gives a cursor, or says why not. */
  function poll(hold) {
    stop();
    began = now();
    flight = get(url('/get_msg') + '&wait=' + hold, hold * 1000 + (hold && !holds ? PROOF_MS / 2 : PATIENCE_MS),
      function (status, reply, asked) {
        flight = null;
        if (status === 200 && reply.cursor) { answered(reply, hold); } else { refused(status, hold, asked); }
      });
  }

  function answered(reply, hold) {
    failures = 0;
    if (hold && now() - began > hold * 800) {
      holds = true;
      cuts = 0;
    } else if (hold && !reply.status && !reply.retry && !reply.gap) { cuts += 1; }
    if (polls && !link.live) { tell('on'); }
    take(reply);
    if (!isOpen) { return; }
    if (link.live) {  // what did the stream miss?
      if (reply.messages.length) { link.stream.end(); }
    } else if (reply.retry) {
      later(reply.retry);
    } else if (reply.more) {
      poll(0);
    } else {
      tryStream();
      if (!polls) { return link.stream || later(0, Math.max(0, reopenAt - now())); }
      if (!isSeen()) { return later(0, HIDDEN_MS); }
      if (!mayHold()) { return later(0, POLL_MS * (0.75 + Math.random() / 2)); }
      if (hold && cuts) { return later(0, RETRY_MS); }
      poll(holds && now() >= reopenAt ? options.wait || 25 : 2);
    }
  }

  function refused(status, hold, asked) {
    var isDenied = /40[013]|422/.test(status);
    if (link.live) { return status || link.stream.end(); }
    if (isDenied && tabs && tabs.refused()) { return poll(0); }
    if (hold && /^0|50[24]/.test(status)) { cuts += holds ? 1 : 2; }
    if (isDenied || failures || !hold) { tell(isDenied ? 'denied' : 'waiting'); }
    later(asked, isDenied ? DENIED_MS * (0.5 + Math.random()) : backoff(failures));
    failures += 1;
  }

  function tryStream() {
    if (memory.next && now() > memory.next) { memory.next = at = cuts = 0; }
    var way = tabs && tabs.isLed() ? 'tab' : now() >= reopenAt && ways[at];
    if (at >= ways.length && (holds || !mayHold())) { settle(mayHold() ? 'longpoll' : 'poll'); }
    if (way && !link.stream && (isSeen() || !polls || way !== 'sse')) { open(way, OPEN[way] || tabs.open); }
  }

  function open(way, opener) {
    var heard = 0, asked = 0, proof, watch, pipe;
    var mine = link.stream = { way: way, frame: frame, end: end, drop: drop, check: check };

    function drop() {
      clearTimeout(proof);
      clearInterval(watch);
      link.stream = null;
      link.live = '';
      if (pipe) { pipe.close(); }
    }
    function end() {
      if (link.stream !== mine) { return; }
      var worked = link.live;
      drop();
      drops += 1;
      if (way === 'tab') {
        tabs.ended(worked);
      } else if ((worked || failures || asked) && drops < 5) {  // the server was away
        reopenAt = now() + (asked || backoff(drops));
      } else {
        at += 1;
        drops = reopenAt = 0;
      }
      if (!polls && at >= ways.length) { at = 0; reopenAt = now() + backoff(4); }
      if (worked || !polls) { later(asked, backoff(0)); } else { tryStream(); }
    }
    function frame(reply, isProof) {
      if (link.stream !== mine) { return; }
      heard = now();
      asked = reply.retry || asked;
      if (reply.cursor) { take(reply); }
      if (!isProof || link.live || link.stream !== mine) { return; }
      clearTimeout(proof);
      stop();
      link.live = way;
      if (way !== 'tab') { settle(way); }
      tell('on');
      watch = setInterval(function () {
        drops = 0;
        if (at && polls && now() > memory.next) { restart(); } else if (isSeen() || way === 'tab') { check(); }
      }, WATCH_MS);
    }
    function check() {
      var since = now();
      if (!pipe.ping) { return poll(0); }
      pipe.ping();
      clearTimeout(proof);
      proof = setTimeout(function () { if (heard < since) { end(); } }, PROOF_MS);
    }

    proof = setTimeout(end, PROOF_MS);
    try { pipe = opener(url, frame, end); } catch (error) { end(); }
  }

  function wake() {
    if (isSeen() || link.live === 'tab') {
      if (link.live) { link.stream.check(); } else if (now() >= notBefore && (!flight || now() - began > PROOF_MS)) { poll(0); }
    } else if (link.live === 'sse' && polls) {  // one of six connections
      link.stream.drop();
      later(0, HIDDEN_MS);
    }
  }
  function begin() {
    if (isOpen) { return wake(); }
    isOpen = true;
    tell('connecting');
    tabs = Longshore.tabs && options.share !== false ? Longshore.tabs(link, stored) : null;
    later(0, tabs ? 20 : 0);  // a leader begins when it knows
  }
  function rest() {
    isOpen = false;
    stop();
    restart();
    tabs = tabs && tabs.close();
  }
  function listen(how) {
    document[how]('visibilitychange', wake);
    window[how]('online', wake);
    window[how]('pagehide', rest);
    window[how]('pageshow', begin);
  }

  listen('addEventListener');
  begin();
  return {
    cursor: function () { return link.cursor; },
    close: function () {
      listen('removeEventListener');
      rest();
      tell('off');
    }
  };
}

return { subscribe: subscribe, within: within, number: number, epoch: epoch, isAfter: isAfter, unique: unique };
}());
