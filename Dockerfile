FROM python:3.13-slim AS packages
COPY deploy/requirements.lock /
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile \
       --only-binary :all: --require-hashes -r /requirements.lock

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin chat \
    && install -d -m 700 -o chat /var/lib/chat
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv/chat
COPY chatapp chatapp
COPY gunicorn.conf.py wsgi.py ./
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    CHATAPP_INSTANCE=/var/lib/chat CHATAPP_LOCAL_MODEL=false
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["gunicorn", "-k", "gevent", "-b", "0.0.0.0:8000", "--worker-tmp-dir", "/dev/shm", "wsgi:app"]
