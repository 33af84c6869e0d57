"""What a browser would see of a page, without a browser."""

import html.parser
import re


class Page(html.parser.HTMLParser):
  """Tags and words; every tag has to be closed."""

  void = ('meta', 'img', 'line', 'circle', 'wbr', 'br')

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.text = [], [], []
    self.feed(text)
    assert not self.open, self.open

  def handle_startendtag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag not in self.void:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'title'):
      self.text.append(data)

  def all(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]

  @property
  def words(self):
    return re.sub(r'\s+', ' ', ' '.join(self.text))
