# Writes lme4_random_intercept.json: Rscript tests/reference/lme4_random_intercept.R (from the root).
library(lme4)
fit <- function(data, formula, reml) {
  m <- lmer(formula, data, REML = reml,
            control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12)))
  v <- as.data.frame(VarCorr(m))$vcov
  sprintf('{"group": %.10f, "residual": %.10f, "minus2loglik": %.10f, "beta": [%s], "se_beta": [%s]}',
          v[1], v[2], -2 * as.numeric(logLik(m)),
          paste(sprintf("%.8f", fixef(m)), collapse = ", "),
          paste(sprintf("%.8f", sqrt(diag(as.matrix(vcov(m))))), collapse = ", "))
}
read <- function(name) read.csv(file.path("src/ranef/datasets", paste0(name, ".csv")))
cases <- list(
  list("Dyestuff", Yield ~ 1 + (1 | Batch)),
  list("sleepstudy", Reaction ~ Days + (1 | Subject)))
rows <- sapply(cases, function(case) {
  d <- read(case[[1]])
  sprintf('  "%s": {\n    "formula": "%s",\n    "reml": %s,\n    "ml": %s\n  }', case[[1]],
          paste(deparse(case[[2]]), collapse = ""), fit(d, case[[2]], TRUE), fit(d, case[[2]], FALSE))
})
source <- sprintf('  "source": "lme4 %s, %s, tests/reference/lme4_random_intercept.R, written %s"',
                  packageVersion("lme4"), R.version.string, Sys.Date())
writeLines(paste0("{\n", paste(c(source, rows), collapse = ",\n"), "\n}"),
           "tests/reference/lme4_random_intercept.json")
