/* What our own pages share, put beside Longshore.subscribe: texts, page data, elements, requests.
   ES5, no libraries: it must run in PhantomJS 2.1.1 and IE11. */
(function () {
  'use strict';

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

  /* Shows a subscription's state in the element #live, and in its title the way that messages take; give
     it as onState. */
  function showLive(state, transport) {
    var live = byId('live');
    if (live) {
      live.hidden = false;             // without scripts nothing is live
      live.setAttribute('data-state', state);
      live.setAttribute('data-transport', transport);
      live.title = transport ? text('js.live.by.' + transport) : '';
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

  Longshore.text = text;
  Longshore.element = element;
  Longshore.clear = clear;
  Longshore.byId = byId;
  Longshore.csrf = csrf;
  Longshore.request = request;
  Longshore.showLive = showLive;
  Longshore.refresh = refresh;
  Longshore.setBadge = setBadge;
  Longshore.toast = toast;
  Longshore.page = readJson('page-data');
  Longshore.share = document.body.getAttribute('data-account') || '';   // tabs of two logins share nothing
}());
