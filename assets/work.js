/* Work on a server by hand: a command's output while it runs, a file's upload. The command runs and
   files are fetched without scripts too. */
(function () {
  'use strict';
  var text = Longshore.text;
  var byId = function (id) { return document.getElementById(id); };

  // A file whose text goes into a field.
  Array.prototype.forEach.call(document.querySelectorAll('[data-fills]'), function (input) {
    if (!window.FileReader) { return; }
    input.parentNode.hidden = false;
    input.addEventListener('change', function () {
      var reader = new FileReader();
      reader.onload = function () { byId(input.getAttribute('data-fills')).value = reader.result; };
      if (input.files[0]) { reader.readAsText(input.files[0]); }
    });
  });

  var exec = byId('exec-form');
  if (!exec) { return; }
  var output = byId('exec-output');
  var end = byId('exec-end');
  var stop = byId('exec-stop');
  var run = exec.querySelector('button[type="submit"]');

  function show(line, isError) {
    var follows = output.scrollTop + output.clientHeight >= output.scrollHeight - 4;
    var node = document.createElement('span');
    if (isError) { node.className = 'exec-err'; }
    node.textContent = line + '\n';
    output.appendChild(node);
    if (follows) { output.scrollTop = output.scrollHeight; }
  }

  function ended(last) {
    var said = last.error || (last.signal ? text('js.work.signal', { signal: last.signal }) : text('js.work.exit', { code: last.exit_code }));
    end.textContent = said + (last.truncated ? ' ' + text('js.work.truncated') : '');
    end.className = 'exec-end notice is-' + (last.exit_code === 0 ? 'success' : 'error');
  }

  function hear(line) {
    var said;
    try { said = JSON.parse(line); } catch (error) { return; }
    if (said.stream) { return show(said.line, said.stream === 'err'); }
    if (!said.begun) { ended(said); }
  }

  function start() {
    var xhr = new XMLHttpRequest();
    var heard = 0;
    function more() {
      var cut;
      while ((cut = xhr.responseText.indexOf('\n', heard)) >= 0) {
        hear(xhr.responseText.slice(heard, cut));
        heard = cut + 1;
      }
    }
    function over() { run.disabled = false; stop.hidden = true; }
    xhr.open('POST', '/api/v1/servers/' + exec.getAttribute('data-server') + '/exec?live=1', true);
    xhr.setRequestHeader('Content-Type', 'application/json');
    xhr.setRequestHeader('X-CSRF-Token', Longshore.page.csrf);
    xhr.onprogress = function () { if (xhr.status === 200) { more(); } };
    xhr.onload = function () {
      over();
      if (xhr.status === 200) { return more(); }
      var said = {};
      try { said = JSON.parse(xhr.responseText); } catch (error) { /* no JSON: the general text */ }
      ended({ error: said.message || text('js.request.failed') });
    };
    xhr.onerror = function () { over(); ended({ error: text('js.request.failed') }); };
    xhr.onabort = function () { over(); ended({ error: text('js.work.stopped') }); };
    xhr.send(JSON.stringify({ command: byId('command').value, seconds: byId('seconds').value }));
    return xhr;
  }

  exec.addEventListener('submit', function (event) {
    event.preventDefault();
    Longshore.clear(output);
    byId('exec-result').hidden = false;
    end.className = 'exec-end';
    end.textContent = text('js.work.running');
    run.disabled = true;
    stop.hidden = false;
    var xhr = start();
    stop.onclick = function () { xhr.abort(); };
  });

  // Upload.
  var put = byId('put-form');
  var result = byId('put-result');
  put.hidden = false;
  byId('put-file').addEventListener('change', function () {
    var file = this.files[0];
    if (file && !byId('put-path').value) { byId('put-path').value = '/tmp/' + file.name; }
  });
  put.addEventListener('submit', function (event) {
    event.preventDefault();
    var file = byId('put-file').files[0];
    if (file.size > Number(put.getAttribute('data-limit'))) { result.textContent = text('js.work.too_large'); return; }
    var button = put.querySelector('button');
    var changed = Math.floor((file.lastModified || Date.now()) / 1000);
    var address = '/api/v1/servers/' + put.getAttribute('data-server') + '/file?path=' + encodeURIComponent(byId('put-path').value) + '&changed=' + changed;
    var xhr = new XMLHttpRequest();
    xhr.open('PUT', address, true);
    xhr.setRequestHeader('Content-Type', 'application/octet-stream');
    xhr.setRequestHeader('X-CSRF-Token', Longshore.page.csrf);
    xhr.upload.onprogress = function (sent) {
      if (sent.lengthComputable) { result.textContent = Math.floor(100 * sent.loaded / sent.total) + ' %'; }
    };
    xhr.onload = function () {
      var said = {};
      button.disabled = false;
      try { said = JSON.parse(xhr.responseText); } catch (error) { /* no JSON: the general text */ }
      result.textContent = xhr.status === 200 ? text('js.work.put_done', { bytes: said.bytes }) : said.message || text('js.request.failed');
    };
    xhr.onerror = function () { button.disabled = false; result.textContent = text('js.request.failed'); };
    button.disabled = true;
    xhr.send(file);
  });
}());
