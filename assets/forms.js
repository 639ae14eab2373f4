/* Lists and forms of servers, projects and credentials: delete without a reload, connection tests,
   fields that depend on a choice. Everything here works without scripts too, by pages of its own. */
(function () {
  'use strict';
  var text = Longshore.text;
  var element = Longshore.element;

  function all(selector, apply) {
    Array.prototype.forEach.call(document.querySelectorAll(selector), apply);
  }

  // Delete: the row goes, the reader stays on this page of the list.

  function rowOf(node) {
    while (node && !(node.hasAttribute && node.hasAttribute('data-row'))) { node = node.parentNode; }
    return node;
  }

  function removeRow(row) {
    var body = row.parentNode;
    row.className += ' leaving';
    window.setTimeout(function () {
      var next = row.nextElementSibling || row.previousElementSibling;
      body.removeChild(row);
      // An emptied page shows what the server has for it now: the page before, or the empty list.
      if (!next) { return window.location.reload(); }
      next.querySelector('[data-delete]').focus();   // the keyboard goes on where it was
    }, 260);
  }

  function askToDelete(link) {
    var name = link.getAttribute('data-name');
    Longshore.ask({
      title: text('js.delete.title', { name: name }),
      text: link.getAttribute('data-warning'),
      confirm: text('js.delete.confirm'),
      danger: true
    }, function (dialog) {
      Longshore.request('DELETE', link.getAttribute('data-delete'), {}, function (error) {
        if (error && error.status !== 404) { return dialog.fail(error.message); }
        dialog.close();
        removeRow(rowOf(link));
        Longshore.toast(text('js.delete.done', { name: name }));
      });
    });
  }

  all('a[data-delete]', function (link) {
    link.addEventListener('click', function (event) {
      if (event.ctrlKey || event.metaKey || event.shiftKey) { return; }
      event.preventDefault();
      askToDelete(link);
    });
  });

  // data-show="kind=ssh,local": shown while the field kind has one of these values.

  function valueOf(name) {
    var checked = document.querySelector('input[name="' + name + '"]:checked');
    return checked ? checked.value : '';
  }

  function holds(rule) {
    var parts = rule.split('=');
    return parts[1].split(',').indexOf(valueOf(parts[0])) >= 0;
  }

  function showGroups() {
    all('[data-show]', function (group) { group.hidden = !holds(group.getAttribute('data-show')); });
    // A short secret is masked; a key of many lines must be seen to be pasted well.
    all('[data-mask]', function (field) {
      field.className = holds(field.getAttribute('data-mask')) ? 'code masked' : 'code';
    });
  }

  all('input[type="radio"]', function (radio) { radio.addEventListener('change', showGroups); });
  showGroups();

  // A refused form is gone on with at its first wrong field.
  var wrong = document.querySelector('[aria-invalid="true"]');
  if (wrong) { (wrong.querySelector('input') || wrong).focus(); }

  // Connection test.

  function pair(list, label, value) {
    list.appendChild(element('dt', { text: label }));
    list.appendChild(element('dd', {}, [element('code', { 'class': 'wrap', text: value })]));
  }

  function notice(kind, message) {
    return element('p', { 'class': 'notice is-' + kind, text: message });
  }

  function showCheck(path, result, check) {
    Longshore.clear(result);
    result.appendChild(notice(check.ok ? 'success' : 'error', check.message || text('js.check.ok')));
    showDetails(result, check.details || []);
    if (!check.fingerprint) { return; }
    var list = element('dl', { 'class': 'meta' });
    pair(list, text('js.check.fingerprint'), check.fingerprint);
    if (check.known_fingerprint && check.known_fingerprint !== check.fingerprint) {
      pair(list, text('js.check.known_fingerprint'), check.known_fingerprint);
    }
    result.appendChild(list);
    if (!check.ok && /^host_key_/.test(check.code || '')) { offerAccept(path, result, check.fingerprint); }
  }

  function showDetails(result, details) {
    var list = element('dl', { 'class': 'meta' });
    details.forEach(function (detail) {
      list.appendChild(element('dt', { text: detail[0] }));
      list.appendChild(element('dd', { text: detail[1] }));
    });
    if (details.length) { result.appendChild(list); }
  }

  function offerAccept(path, result, fingerprint) {
    var button = element('button', { type: 'button', 'class': 'button primary', text: text('js.check.accept') });
    button.addEventListener('click', function () {
      button.disabled = true;
      Longshore.request('POST', '/api/v1' + path + '/host_key', { json: { fingerprint: fingerprint } }, function (error) {
        if (error) { return showCheck(path, result, { ok: false, message: error.message }); }
        test(path, result);
      });
    });
    result.appendChild(element('p', { 'class': 'hint', text: text('js.check.accept_hint') }));
    result.appendChild(button);
  }

  function test(path, result, done) {
    Longshore.clear(result);
    result.appendChild(element('p', { 'class': 'hint', text: text('js.check.running') }));
    Longshore.request('POST', '/api/v1' + path + '/check', { json: {} }, function (error, check) {
      showCheck(path, result, error || !check ? { ok: false, message: error ? error.message : text('js.request.failed') } : check);
      if (done) { done(); }
    });
  }

  all('[data-check]', function (box) {
    var path = box.getAttribute('data-check');
    var form = box.querySelector('form');
    var button = form.querySelector('button');
    form.addEventListener('submit', function (event) {
      event.preventDefault();
      button.disabled = true;
      test(path, box.querySelector('.check-result'), function () { button.disabled = false; });
    });
  });
}());
