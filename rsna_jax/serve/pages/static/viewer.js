// Zoom, pan, window and heat map of the pictures of an answer.
// Without it the form below each picture opens the picture with a window.
'use strict';

const WAIT_MS = 250;  // after the last change, before the server is asked
const STEP_PX = 500;  // of dragging, for the whole range of grey

class Viewer {
  constructor(root) {
    this.root = root;
    this.find = (name) => root.querySelector(name);
    this.frame = this.find('.window-frame');
    this.stage = this.find('.stage');
    this.under = this.find('.under');
    this.over = this.find('.over');
    this.form = this.find('form');
    this.center = this.find('[data-center]');
    this.width = this.find('[data-width]');
    this.zoom = this.find('[data-zoom]');
    this.map = this.find('[data-map]');
    this.loaded = {center: 0.5, width: 1};
    for (const one of root.querySelectorAll('[data-script]')) {
      one.hidden = false;
    }
    this.listen();
    this.layout();
  }

  listen() {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.ask();
    });
    for (const one of [this.center, this.width]) {
      one.addEventListener('input', () => this.window());
    }
    this.zoom.addEventListener('input', () => this.layout());
    this.map?.addEventListener('input', () => this.heat());
    this.find('[data-reset]').addEventListener('click', () => this.reset());
    this.find('[data-box]')?.addEventListener('change', (event) => {
      this.find('.stage svg').toggleAttribute('hidden', !event.target.checked);
    });
    for (const one of this.root.querySelectorAll('[data-drag]')) {
      one.addEventListener('change', () => this.mode());
    }
    this.mode();
    this.frame.addEventListener('pointerdown', (event) => this.grab(event));
    this.frame.addEventListener('wheel', (event) => this.wheel(event),
      {passive: false});
    this.under.addEventListener('error', () => this.failed());
    this.over?.addEventListener('error', () => this.failed());
    new ResizeObserver(() => this.layout()).observe(this.frame);
  }

  say(control, text) {
    control.parentNode.querySelector('output').textContent = text;
  }

  failed() {
    this.find('[data-failed]').hidden = false;
  }

  mode() {
    const moves = this.find('[data-drag]:checked')?.value === 'move';
    this.root.classList.toggle('moves', moves);
    this.root.classList.toggle('adjusts', !moves);
  }

  // The whole picture fits at 100 %; the point in the middle stays there.
  layout() {
    const high = this.under.getAttribute('height');
    const wide = this.under.getAttribute('width');
    const frame = this.frame;
    if (!frame.clientWidth) return;
    const share = Math.min(frame.clientWidth / wide, frame.clientHeight / high);
    const scale = share * this.zoom.value / 100;
    const before = this.stage.offsetWidth || 1;
    const x = (frame.scrollLeft + frame.clientWidth / 2) / before;
    const y = (frame.scrollTop + frame.clientHeight / 2)
      / (this.stage.offsetHeight || 1);
    this.stage.classList.add('sized');
    this.stage.style.width = Math.floor(wide * scale) + 'px';
    this.stage.style.height = Math.floor(high * scale) + 'px';
    frame.scrollLeft = x * this.stage.offsetWidth - frame.clientWidth / 2;
    frame.scrollTop = y * this.stage.offsetHeight - frame.clientHeight / 2;
    this.say(this.zoom, this.zoom.value + ' %');
  }

  heat() {
    const share = Number(this.map.value);
    if (share && !this.over.src) {
      this.frame.setAttribute('aria-busy', 'true');
      this.over.addEventListener('load', () => {
        this.frame.removeAttribute('aria-busy');
        this.heat();
      }, {once: true});
      this.over.src = this.over.dataset.src;
    }
    this.over.hidden = share === 0;
    this.over.style.opacity = share / 100;
    const waits = share && !this.over.naturalWidth;
    this.say(this.map, waits ? this.map.dataset.wait : share + ' %');
  }

  // A filter previews the window at once; the server then draws it anew.
  window() {
    const center = Number(this.center.value);
    const width = Number(this.width.value);
    this.say(this.center, Math.round(100 * center) + ' %');
    this.say(this.width, Math.round(100 * width) + ' %');
    // From what is shown now to what is asked for: one line, but for clipping.
    const slope = this.loaded.width / width;
    const shift = (this.loaded.center - center - this.loaded.width / 2) / width;
    for (const one of this.find('filter').querySelectorAll('[type]')) {
      one.setAttribute('slope', slope);
      one.setAttribute('intercept', shift + 0.5);
    }
    this.under.style.filter = `url(#${this.find('filter').id})`;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), WAIT_MS);
  }

  ask() {
    clearTimeout(this.timer);
    const center = Number(this.center.value);
    const width = Number(this.width.value);
    const wanted = `${this.under.dataset.window}?center=${center}&width=${width}`;
    const next = new Image();
    this.next = next;
    next.addEventListener('load', () => {
      if (this.next !== next) return;  // a later one is under way
      this.under.src = next.src;
      this.under.style.filter = '';
      this.loaded = {center, width};
      this.root.dataset.window = `${center} ${width}`;
    });
    next.addEventListener('error', () => this.failed());
    next.src = wanted;
  }

  set(control, value) {
    control.value = value;
    control.dispatchEvent(new Event('input'));
  }

  reset() {
    for (const one of [this.center, this.width, this.zoom]) {
      this.set(one, one.defaultValue);
    }
  }

  grab(event) {
    const moves = this.root.classList.contains('moves');
    if (event.button !== 0 || (moves && event.pointerType === 'touch')) return;
    const start = {x: event.clientX, y: event.clientY,
      left: this.frame.scrollLeft, top: this.frame.scrollTop,
      center: Number(this.center.value), width: Number(this.width.value)};
    const move = (now) => {
      const x = now.clientX - start.x;
      const y = now.clientY - start.y;
      if (moves) {
        this.frame.scrollLeft = start.left - x;
        this.frame.scrollTop = start.top - y;
        return;
      }
      this.center.value = start.center + y / STEP_PX;
      this.width.value = start.width + 2 * x / STEP_PX;
      this.window();
    };
    const end = () => {
      this.frame.removeEventListener('pointermove', move);
      this.frame.removeEventListener('pointerup', end);
      this.frame.removeEventListener('pointercancel', end);
    };
    this.frame.setPointerCapture(event.pointerId);
    this.frame.addEventListener('pointermove', move);
    this.frame.addEventListener('pointerup', end);
    this.frame.addEventListener('pointercancel', end);
    event.preventDefault();
    this.frame.focus({preventScroll: true});
  }

  // As in other viewers of images: the wheel alone scrolls the page.
  wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.set(this.zoom, Number(this.zoom.value) - Math.sign(event.deltaY) * 25);
  }
}

function startViewers(root) {
  for (const one of root.querySelectorAll('[data-viewer]:not([data-started])')) {
    one.dataset.started = '';
    new Viewer(one);
  }
}
