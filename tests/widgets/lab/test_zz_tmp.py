import time, json
_P = '''
import anywidget, traitlets, threading, time
class Counter(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      let t = 0; const log = []; el.innerHTML = "<pre></pre>"; window.pings = log;
      model.on("msg:custom", (c) => { log.push([c.n, Math.round(performance.now()), c.thread]); }); const logs=[]; window.subs=logs; let k=0; const iv=setInterval(() => { k++; if (k>90) clearInterval(iv); const c = model.widget_manager.kernel ? [...model.widget_manager.kernel._comms.values()].map((c) => c._subshellId) : "?"; logs.push([Math.round(performance.now()), JSON.stringify(c)]); if (k%%5==1) ping(k); }, 300);
      const ping = (n) => { t = performance.now(); model.send({ n }); };
      el.dataset.dlState = "ready"; window.ping = ping; %s
    } };"""
    def __init__(self):
        super().__init__(); self.on_msg(lambda w, c, b: w.send({"n": c["n"], "thread": threading.current_thread().name}))
counter = Counter()
'''


def test_a(notebook):
    lab = notebook(_P % "", "counter", "t=time.time(); time.sleep(20)", run=False)
    import re, time
    t0=time.time()
    frames=[]
    lab.page.evaluate("""() => { const old = WebSocket.prototype.send; window.fr=[]; WebSocket.prototype.send=function(d){ const s = typeof d==='string'? d : new TextDecoder('latin1').decode(d); window.fr.push([Math.round(performance.now()), (s.match(/"msg_type":"[^"]*"/)||[''])[0], (s.match(/"subshell_id":[^,}]*/)||[''])[0], (s.match(/"n":[0-9]*/)||[''])[0]]); return old.call(this,d);} }""")
    lab.run_all()
    lab.ready(); lab.until(lambda: len(lab.page.evaluate("window.subs"))>=85, 60)
    print("RUN ALL", lab.page.evaluate("window.pings"), lab.prompts())
    for s in lab.page.evaluate("window.fr"): print(s)
