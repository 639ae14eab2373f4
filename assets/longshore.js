/* The one global of our pages: texts, page data, requests, and the subscription to rooms (wire.md).
   ES5, no libraries: it must run in PhantomJS 2.1.1 and IE11. */
var Longshore = (function () {
  'use strict';

  var HOLD_SECONDS = 25;          // proxies cut longer holds
  var GRACE_MS = 15000;           // on top of the hold, before a poll counts as lost
  var FIRST_RETRY_MS = 500;
  var LONGEST_RETRY_MS = 20000;
  var HIDDEN_PAUSE_MS = 5000;     // between polls of a tab that nobody sees
  var EMPTY_PAUSE_MS = 1000;      // where empty answers come at once, though they should be held

  function byId(id) { return document.getElementById(id); }

  function readJson(id) {
    var block = byId(id);
    try { return block ? JSON.parse(block.textContent) : {}; } catch (error) { return {}; }
  }

  var texts = readJson('page-text');

  /* The text of a key, its {name} placeholders filled from args. */
  function text(key, args) {
    var found = texts.hasOwnProperty(key) ? texts[key] : key;
    return found.replace(/\{(\w+)\}/g, function (whole, name) {
      return args && args.hasOwnProperty(name) ? String(args[name]) : whole;
    });
  }

  /* element('p', {'class': 'x', text: 'y'}, [children]) */
  function element(tag, attributes, children) {
    var made = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) {
      if (name === 'text') { made.textContent = attributes.text; } else { made.setAttribute(name, attributes[name]); }
    });
    (children || []).forEach(function (child) { if (child) { made.appendChild(child); } });
    return made;
  }

  function clear(node) { while (node.firstChild) { node.removeChild(node.firstChild); } }

  function csrf() {
    var field = document.querySelector('input[name="csrf"]');
    return field ? field.value : '';
  }

  function form(fields) {
    return Object.keys(fields).map(function (name) {
      return encodeURIComponent(name) + '=' + encodeURIComponent(fields[name]);
    }).join('&');
  }

  /* One request. options: {form | json, timeout ms, accept}; done(error, answer, xhr), where error is null or
     {status, code, message} and answer the parsed JSON, or the text where it is none. */
  function request(method, url, options, done) {
    var xhr = new XMLHttpRequest();
    var ended = false;
    function end(error, answer) {
      if (!ended) { ended = true; done(error, answer, xhr); }
    }
    xhr.open(method, url, true);
    xhr.timeout = options.timeout || 60000;
    xhr.setRequestHeader('Accept', options.accept || 'application/json');
    if (method !== 'GET') { xhr.setRequestHeader('X-CSRF-Token', csrf()); }
    xhr.onload = function () {
      var answer = xhr.responseText;
      var isJson = /json/.test(xhr.getResponseHeader('Content-Type') || '');
      try { if (isJson && answer) { answer = JSON.parse(answer); } } catch (error) { answer = null; }
      if (xhr.status >= 200 && xhr.status < 300 && !(isJson && answer === null)) { return end(null, answer); }
      var said = isJson && answer ? answer : {};
      end({ status: xhr.status, code: said.code || '', message: said.message || text('js.request.failed') }, answer);
    };
    xhr.onerror = xhr.ontimeout = xhr.onabort = function () {
      end({ status: 0, code: '', message: text('js.request.failed') }, null);
    };
    if (options.json) {
      xhr.setRequestHeader('Content-Type', 'application/json');
      xhr.send(JSON.stringify(options.json));
    } else if (options.form) {
      xhr.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
      xhr.send(form(options.form));
    } else {
      xhr.send();
    }
    return xhr;
  }

  /* Ids are decimal strings that may pass 2^53: the longer is the greater, then the alphabet decides. */
  function isAfter(id, last) {
    if (!last) { return true; }
    return id.length === last.length ? id > last : id.length > last.length;
  }

  function retryAfter(xhr) {
    var said = xhr.getResponseHeader('Retry-After');
    if (!said) { return 0; }
    var seconds = /^\d+$/.test(said) ? Number(said) : (Date.parse(said) - Date.now()) / 1000;
    return seconds > 0 ? Math.min(seconds, 300) * 1000 : 0;
  }

  /* Follows rooms until close(). options:
       rooms      list of room names
       client     this client's name; one of its own for each tab when left out
       after      cursor to go on from; 'now' when left out
       onMessage  (message), each once, in the log's order
       onGap      (rooms): messages were lost, reload the page's state
       onState    ('connecting' | 'on' | 'waiting' | 'off' | 'denied')
     The cursor moves on only after the handlers ran, so a reply that dies on its way is asked for again. */
  function subscribe(options) {
    var cursor = options.after || 'now';
    var client = options.client || 'page-' + Math.random().toString(36).slice(2, 12);
    var rooms = options.rooms.map(function (room) { return '&room=' + encodeURIComponent(room); }).join('');
    var closed = false;
    var state = '';
    var failures = 0;
    var lastId = '';
    var hold = 0;                  // the first poll does not wait, so that "live" shows at once
    var timer = null;
    var flight = null;
    var quickEmpty = 0;

    function tell(next) {
      if (state !== next) {
        state = next;
        if (options.onState) { options.onState(next); }
      }
    }

    function guarded(handler, argument) {
      // One message that a page cannot digest must not hold up all that follow.
      try { if (handler) { handler(argument); } } catch (error) { if (window.console) { console.error(error); } }
    }

    function later(pause) {
      window.clearTimeout(timer);
      if (!closed) { timer = window.setTimeout(poll, pause); }
    }

    function take(reply) {
      if (reply.gap && reply.gap.length) {
        lastId = '';
        guarded(options.onGap, reply.gap);
      }
      (reply.messages || []).forEach(function (message) {
        if (isAfter(message.id, lastId)) {
          guarded(options.onMessage, message);
          lastId = message.id;
        }
      });
      if (reply.cursor) { cursor = reply.cursor; }
    }

    function failed(xhr) {
      var asked = xhr ? retryAfter(xhr) : 0;
      var ceiling = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * Math.pow(2, failures));
      failures += 1;
      hold = 0;
      tell('waiting');
      later(asked || Math.random() * ceiling);
    }

    function refused(status) {
      if (status === 401 || status === 403) {
        tell('denied');
        close();
        return true;
      }
      if (status === 400 && cursor !== 'now') {   // a cursor that this server cannot read
        cursor = 'now';
        lastId = '';
        guarded(options.onGap, options.rooms);
      }
      return false;
    }

    function pauseAfter(reply, took, held) {
      if (reply.retry) { return reply.retry; }
      if (reply.more) { return 0; }
      if (!reply.status && held && took < EMPTY_PAUSE_MS) {
        quickEmpty += 1;
        return quickEmpty > 2 ? EMPTY_PAUSE_MS : 0;
      }
      quickEmpty = 0;
      return document.hidden ? HIDDEN_PAUSE_MS : 0;
    }

    /* The one place that knows how messages come; other transports take its place. */
    function poll() {
      if (closed || flight) { return; }
      var began = Date.now();
      var held = hold;
      var url = '/get_msg?name=' + encodeURIComponent(client) + rooms + '&after=' + encodeURIComponent(cursor) + '&wait=' + held;
      flight = request('GET', url, { timeout: held * 1000 + GRACE_MS }, function (error, reply, xhr) {
        flight = null;
        if (closed) { return; }
        if (error || !reply || typeof reply !== 'object') {
          if (!error || !refused(error.status)) { failed(xhr); }
          return;
        }
        failures = 0;
        hold = HOLD_SECONDS;
        tell('on');
        take(reply);
        later(pauseAfter(reply, Date.now() - began, held));
      });
    }

    function wake() {
      if (!closed && !document.hidden && !flight) { later(0); }
    }

    function close() {
      if (closed) { return; }
      closed = true;
      window.clearTimeout(timer);
      document.removeEventListener('visibilitychange', wake);
      window.removeEventListener('online', wake);
      window.removeEventListener('pageshow', wake);
      if (flight) { flight.abort(); }
      if (state !== 'denied') { tell('off'); }
    }

    document.addEventListener('visibilitychange', wake);
    window.addEventListener('online', wake);
    window.addEventListener('pageshow', wake);
    tell('connecting');
    later(0);
    return { close: close, cursor: function () { return cursor; } };
  }

  /* Shows a subscription's state in the element #live; give it as onState. */
  function showLive(state) {
    var live = byId('live');
    if (live) {
      live.hidden = false;             // without scripts nothing is live
      live.setAttribute('data-state', state);
      live.querySelector('span').textContent = text('js.live.' + state);
    }
  }

  /* Reads this page anew and swaps the elements with these ids, leaving the rest as it is. */
  function refresh(ids, done) {
    request('GET', window.location.href, { accept: 'text/html' }, function (error, answer) {
      if (error || typeof answer !== 'string') { return; }
      var fresh = document.implementation.createHTMLDocument('');
      fresh.documentElement.innerHTML = answer;
      ids.forEach(function (id) {
        var now = byId(id);
        var next = fresh.getElementById(id);
        if (now && next) { now.parentNode.replaceChild(document.importNode(next, true), now); }
      });
      if (Longshore.times) { Longshore.times(); }
      if (done) { done(); }
    });
  }

  function setBadge(badge, state) {
    badge.className = 'badge is-' + state;
    badge.setAttribute('data-state', state);
    badge.querySelector('.badge-text').textContent = text('state.' + state);
  }

  function toast(message) {
    var box = byId('toasts');
    var shown = element('div', { 'class': 'toast', text: message });
    box.appendChild(shown);
    window.setTimeout(function () { box.removeChild(shown); }, 5000);
  }

  return {
    text: text, element: element, clear: clear, byId: byId, csrf: csrf, request: request,
    subscribe: subscribe, showLive: showLive, refresh: refresh, setBadge: setBadge, toast: toast,
    page: readJson('page-data')
  };
}());
