// The form of the start page, and what happens when its answer arrives.
'use strict';

const byId = (id) => document.getElementById(id);

// The chosen images, each with what is known of it. The file input is kept in
// step, so that the form sends what is shown.
class Chosen {
  constructor(form) {
    this.form = form;
    this.input = byId('files');
    this.camera = byId('camera');
    this.list = byId('chosen');
    this.status = byId('status');
    this.files = [];
    this.number = 0;
    // What a browser kept over a reload is not shown, so it is not sent.
    this.input.value = '';
    this.input.addEventListener('change', () => this.add(this.input.files));
    this.camera.addEventListener('change', () => {
      this.add(this.camera.files);
      this.camera.value = '';
    });
    byId('clear').addEventListener('click', () => this.clear());
    const zone = this.input.parentNode;
    for (const [name, over] of [['dragenter', true], ['dragover', true],
        ['dragleave', false], ['drop', false]]) {
      zone.addEventListener(name, () => zone.classList.toggle('over', over));
    }
  }

  add(files) {
    const said = [];
    for (const file of files) {
      if (file.size > Number(this.status.dataset.bytes)) {
        said.push(this.status.dataset.large);
      } else if (this.files.length >= Number(this.status.dataset.files)) {
        said.push(this.status.dataset.many);
      } else {
        this.files.push(file);
        this.list.append(this.row(file));
      }
    }
    this.status.textContent = [...new Set(said)].join(' ');
    this.sync();
  }

  row(file) {
    const part = byId('one').content.cloneNode(true);
    const row = part.querySelector('li');
    const key = '-' + (this.number += 1);
    for (const one of row.querySelectorAll('[id]')) {
      one.id = one.id.replace('-one', key);
    }
    for (const one of row.querySelectorAll('label')) {
      one.htmlFor = one.htmlFor.replace('-one', key);
    }
    row.querySelector('strong').textContent = file.name;
    const remove = row.querySelector('button');
    remove.setAttribute('aria-label', `${remove.textContent} ${file.name}`);
    remove.addEventListener('click', () => {
      this.files.splice(this.files.indexOf(file), 1);
      row.remove();
      this.sync();
      this.input.focus();
    });
    if (/^image\/(png|jpeg)$/.test(file.type)) {
      const image = row.querySelector('img');
      image.src = URL.createObjectURL(file);
      image.hidden = false;
      image.addEventListener('load', () => URL.revokeObjectURL(image.src));
    }
    return row;
  }

  clear() {
    this.files = [];
    this.list.replaceChildren();
    this.status.textContent = '';
    byId('answer').replaceChildren();
    this.sync();
    this.input.focus();
  }

  sync() {
    const kept = new DataTransfer();
    for (const file of this.files) kept.items.add(file);
    this.input.files = kept.files;
    const some = this.files.length > 0;
    this.list.hidden = !some;
    byId('clear').hidden = !some;
    // Each image has fields of its own now; the shared ones are not sent.
    byId('shared').hidden = some;
    for (const one of byId('shared').querySelectorAll('select, input')) {
      one.disabled = some;
    }
  }
}

function follow(form) {
  const status = byId('status');
  const progress = byId('progress');
  form.addEventListener('htmx:beforeRequest', () => {
    progress.removeAttribute('value');
    status.textContent = status.dataset.sending;
  });
  form.addEventListener('htmx:xhr:progress', (event) => {
    if (!event.detail.lengthComputable) return;
    progress.value = 100 * event.detail.loaded / event.detail.total;
    if (event.detail.loaded === event.detail.total) {
      progress.removeAttribute('value');
      status.textContent = status.dataset.computing;
    }
  });
  form.addEventListener('htmx:sendError', () => {
    status.textContent = status.dataset.offline;
  });
}

// The answer, or why there is none, is what the reader wants next.
function show(target) {
  startViewers(target);
  for (const one of target.querySelectorAll('[data-script]')) one.hidden = false;
  target.querySelector('[data-print]')
    ?.addEventListener('click', () => window.print());
  const heading = target.querySelector('#answer-heading, .problem');
  const status = byId('status');
  if (!heading || !status) return;
  status.textContent = heading.id ? status.dataset.ready : '';
  byId('what')?.setAttribute('hidden', '');
  heading.focus({preventScroll: true});
  heading.scrollIntoView();
}

document.addEventListener('DOMContentLoaded', () => {
  const form = byId('upload');
  if (form) {
    new Chosen(form);
    follow(form);
  }
  document.body.addEventListener('htmx:afterSwap',
    (event) => show(event.detail.target));
  startViewers(document);
  for (const one of document.querySelectorAll('[data-answer] [data-script]')) {
    one.hidden = false;
  }
  document.querySelector('[data-print]')
    ?.addEventListener('click', () => window.print());
});
