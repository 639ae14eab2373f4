/* Longshore.subscribe follows rooms by whatever gets through: WebSocket, event stream, long or plain polling.
   ES5, no dependency, for any page; docs/push.md tells how to use it. longshore-tabs.js lets tabs share. */
var Longshore = (function () {
  'use strict';

  var PROOF_MS = 4000;            // a transport that has not proved itself by then is left
  var PATIENCE_MS = 10000;        // for a poll's answer, on top of its hold
  var RETRY_MS = 500;
  var LONGEST_RETRY_MS = 20000;
  var DENIED_MS = 60000;
  var POLL_MS = 3000;             // between plain polls
  var HIDDEN_MS = 30000;          // between polls that nobody sees
  var WATCH_MS = 20000;           // between looks whether a stream still lives
  var CLIMB_MS = 600000;          // then a better transport is tried again; doubles each time
  var LONGEST_CLIMB_MS = 14400000;
  var KINDS = ['message', 'node', 'log', 'release', 'vote', 'presence', 'cursor', 'gap', 'retry'];
  var scripts = document.getElementsByTagName('script');
  var source = (document.currentScript || scripts[scripts.length - 1]).src || '';
  var base = (/^(.*)\/assets\/longshore\.js/.exec(source) || [])[1] || '';

  function unique() { return Math.random().toString(36).slice(2, 12); }
  function backoff(failures) { return Math.random() * Math.min(LONGEST_RETRY_MS, RETRY_MS * Math.pow(2, failures)); }
  function within(all) { return function (one) { return all.indexOf(one) >= 0; }; }

  /* The log's number at a cursor's end: a string, since it may pass 2^53. */
  function number(cursor) { return (/\.(\d+)$/.exec(cursor) || [])[1] || ''; }
  function isAfter(id, last) { return !last || id.length > last.length || (id.length === last.length && id > last); }

  /* localStorage may be missing, full or forbidden. Without a value it reads. */
  function stored(key, value) {
    try {
      if (value) { localStorage.setItem(key, JSON.stringify(value)); }
      return JSON.parse(localStorage.getItem(key));
    } catch (error) { return null; }
  }

  /* done(status, the answer's JSON or {}, Retry-After in ms); gives what aborts. */
  function get(url, patience, done) {
    var xhr = new XMLHttpRequest();
    var timer = setTimeout(function () { abort(done); }, patience);
    function abort(tell) {
      done = null;
      clearTimeout(timer);
      xhr.abort();
      if (tell) { tell(0, {}, 0); }
    }
    xhr.open('GET', url, true);
    xhr.onload = xhr.onerror = function () {
      var tell = done, said = null;
      try { said = JSON.parse(xhr.responseText); } catch (error) { /* a proxy's page */ }
      done = null;
      clearTimeout(timer);
      if (tell) { tell(xhr.status, said || {}, Math.min(xhr.getResponseHeader('Retry-After') * 1000, 300000) || 0); }
    };
    xhr.send();
    return abort;
  }

  function asReply(said, cursor) {
    return { cursor: cursor, gap: said.gap, retry: said.retry, messages: said.id ? [said] : [] };
  }

  /* Streams tell frame(reply, whether it proves both directions) and end(). */
  var OPEN = {
    websocket: function (url, frame, end) {
      var link = document.createElement('a');
      link.href = url('/ws');
      var socket = new WebSocket(link.href.replace(/^http/, 'ws'));
      function ping() { socket.send('{"ping":1}'); }
      socket.onopen = ping;            // some proxies answer the handshake and swallow the frames
      socket.onmessage = function (event) {
        var said = JSON.parse(event.data);
        frame(asReply(said, said.cursor), 'pong' in said);
      };
      socket.onclose = end;
      return { ping: ping, close: function () { socket.onopen = socket.onmessage = socket.onclose = null; socket.close(); } };
    },
    sse: function (url, frame, end) {
      var events = new EventSource(url('/events'));
      KINDS.forEach(function (kind) {
        events.addEventListener(kind, function (event) {
          var said = {};
          try { said = JSON.parse(event.data); } catch (error) { /* its id counts */ }
          frame(asReply(said, event.lastEventId), true);
        });
      });
      events.onerror = end;
      return { close: function () { events.close(); } };
    }
  };

  function subscribe(options) {
    var order = options.transports || ['websocket', 'sse', 'longpoll', 'poll'];
    var ways = order.filter(function (way) { return OPEN[way]; });
    var polls = ways.length < order.length;
    var host = options.url === undefined ? base : options.url;
    var client = options.client || 'tab-' + unique();
    var key = 'longshore ' + host;
    var memory = stored(key) || {};                    // {way: what worked, next: when to climb, pause}
    var at = memory.next > Date.now() ? ways.concat(memory.way).indexOf(memory.way) : 0;
    var cuts = at && memory.way === 'poll' ? 3 : 0;    // polls that were not held, or cut
    var holds = false, flight, began = 0, timer, notBefore = 0, failures = 0, told, isOpen = false;
    var drops = 0, reopenAt = 0, last = number(options.after), tabs = null;
    // What longshore-tabs.js works on.
    var link = {
      options: options, host: host, order: order, rooms: options.rooms, cursor: options.after || 'now',
      afters: [options.after || 'now'], stream: null, live: '', tell: tell, restart: restart
    };

    function guarded(handler, one, two) {
      try { if (handler) { handler(one, two); } } catch (error) { if (window.console) { console.error(error); } }
    }
    function mayHold() { return within(order)('longpoll') && (cuts < 3 || !within(order)('poll')); }
    function isSeen() { return !document.hidden || (tabs && tabs.isSeen()); }
    function tell(state) {
      var by = state !== 'on' ? '' : link.live || (mayHold() ? 'longpoll' : 'poll');
      if (told === state + by) { return; }
      told = state + by;
      if (tabs) { tabs.tell(state); }
      guarded(options.onState, state, by);
    }

    /* What worked with this server is where the next page begins. */
    function settle(way) {
      if (memory.way === way && memory.next > Date.now()) { return; }
      var pause = memory.way === way ? Math.min(memory.pause * 2, LONGEST_CLIMB_MS) : CLIMB_MS;
      memory = { way: way, next: Date.now() + pause, pause: pause };
      stored(key, memory);
    }

    /* Sources overlap, each from a point that was reached: dropping by id leaves every message once, in order. */
    function take(reply) {
      var next = reply.gap || isAfter(number(reply.cursor), number(link.cursor)) ? reply.cursor : link.cursor;
      var gap = (reply.gap || []).filter(within(options.rooms));
      if (tabs) { tabs.pass(reply, next); }
      if (next.replace(/\d+$/, '') !== link.cursor.replace(/\d+$/, '')) { last = ''; }      // another log
      if (gap.length) { guarded(options.onGap, gap); }
      reply.messages.forEach(function (message) {
        if (isOpen && within(options.rooms)(message.room) && isAfter(message.id, last)) {
          last = message.id;
          guarded(options.onMessage, message);
        }
      });
      link.cursor = next;
      link.afters = [next];
      if (isAfter(number(next), last)) { last = number(next); }
    }

    function stop() {
      clearTimeout(timer);
      if (flight) { flight(); }
      flight = null;
    }
    function later(asked, pause) {
      stop();
      notBefore = asked ? Date.now() + asked : 0;
      timer = setTimeout(poll, asked || pause, 0);
    }
    function restart() {
      if (link.stream) { link.stream.drop(); }
      if (isOpen) { poll(0); }
    }
    function url(path) {
      return host + path + '?name=' + encodeURIComponent(client) + ['room', 'after'].map(function (name) {
        return link[name + 's'].map(function (value) { return '&' + name + '=' + encodeURIComponent(value); }).join('');
      }).join('');
    }

    /* A poll that is not held comes first: it settles the cursor and tells a refusal. */
    function poll(hold) {
      stop();
      began = Date.now();
      flight = get(url('/get_msg') + '&wait=' + hold, hold * 1000 + (hold && !holds ? PROOF_MS / 2 : PATIENCE_MS),
        function (status, reply, asked) {
          flight = null;
          if (status === 200 && reply.cursor) { answered(reply, hold); } else { refused(status, hold, asked); }
        });
    }

    function answered(reply, hold) {
      failures = 0;
      if (hold && Date.now() - began > hold * 800) {
        holds = true;
        cuts = 0;
      } else if (hold && !reply.status && !reply.retry && !reply.gap) { cuts += 1; }
      if (polls && !link.live) { tell('on'); }
      take(reply);
      if (!isOpen) { return; }
      if (link.live) {                         // it was asked what the stream might have missed
        if (reply.messages.length) { link.stream.end(); }
      } else if (reply.retry) {
        later(reply.retry);
      } else if (reply.more) {
        poll(0);
      } else {
        tryStream();
        if (!polls) { return link.stream || later(0, Math.max(0, reopenAt - Date.now())); }
        if (at >= ways.length && (holds || !mayHold())) { settle(mayHold() ? 'longpoll' : 'poll'); }
        if (!isSeen()) { return later(0, HIDDEN_MS); }
        if (!mayHold()) { return later(0, POLL_MS * (0.75 + Math.random() / 2)); }
        if (hold && cuts) { return later(0, RETRY_MS); }
        poll(holds ? options.wait || 25 : 2);
      }
    }

    function refused(status, hold, asked) {
      var isDenied = within([400, 401, 403, 422])(status);
      if (link.live) { return status || link.stream.end(); }
      if (isDenied && tabs && tabs.refused()) { return poll(0); }
      if (hold && within([0, 502, 504])(status)) { cuts += holds ? 1 : 2; }
      if (isDenied) { tell('denied'); } else if (failures || !hold) { tell('waiting'); }
      later(asked, isDenied ? DENIED_MS * (0.5 + Math.random()) : backoff(failures));
      failures += 1;
    }

    function tryStream() {
      if (memory.next && Date.now() > memory.next) { memory.next = at = cuts = 0; }
      if (link.stream) { return; }
      if (tabs && tabs.isLed()) { return open('tab', tabs.open); }
      if (at < ways.length && Date.now() >= reopenAt && (isSeen() || !polls || ways[at] !== 'sse')) {
        open(ways[at], OPEN[ways[at]]);
      }
    }

    function open(way, opener) {
      var heard = Date.now(), asked = 0, proof, watch, pipe;
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
        } else if ((worked || failures || asked) && drops < 5) {        // the server was away
          reopenAt = Date.now() + (asked || backoff(drops));
        } else {
          at += 1;
          drops = reopenAt = 0;
        }
        if (!polls && at >= ways.length) {
          at = 0;
          reopenAt = Date.now() + backoff(4);
          tell('waiting');
        }
        if (worked || !polls) { later(asked, backoff(0)); } else { tryStream(); }
      }
      function frame(reply, isProof) {
        if (link.stream !== mine) { return; }
        heard = Date.now();
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
          if (at && polls && Date.now() > memory.next) { restart(); } else if (isSeen() || way === 'tab') { check(); }
        }, WATCH_MS);
      }
      function check() {
        var since = Date.now();
        if (!pipe.ping) { return poll(0); }
        pipe.ping();
        clearTimeout(proof);
        proof = setTimeout(function () { if (heard < since) { end(); } }, PROOF_MS);
      }

      proof = setTimeout(end, PROOF_MS);
      try { pipe = opener(url, frame, end); } catch (error) { end(); }
    }

    function wake() {
      if (link.live === 'tab' || (link.live && isSeen())) { link.stream.check(); } else if (!isSeen()) {
        // A WebSocket may stay, it costs nothing; an event stream is one of the browser's six connections.
        if (link.live === 'sse' && polls) { link.stream.drop(); later(0, HIDDEN_MS); }
      } else if (Date.now() >= notBefore && (!flight || Date.now() - began > PROOF_MS)) { poll(0); }
    }
    function begin() {
      if (isOpen) { return wake(); }
      isOpen = true;
      tell('connecting');
      tabs = Longshore.tabs && options.share !== false ? Longshore.tabs(link, stored) : null;
      later(0, tabs ? 20 : 0);               // the tab that leads begins when it knows
    }
    function rest() {
      isOpen = false;
      stop();
      restart();
      if (tabs) { tabs.close(); }
      tabs = null;
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

  return { subscribe: subscribe, within: within, number: number, isAfter: isAfter, unique: unique };
}());
