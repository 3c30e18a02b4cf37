# Writes lme4_mixed.json: Rscript tests/reference/lme4_mixed.R (from the root).
# The models of reference.json's likelihood_fits with all the digits that lme4 has.
library(lme4)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e5))
number <- function(x) sprintf("%.15g", x)
fit <- function(data, formula, names, reml) {
  m <- lmer(formula, data, REML = reml, control = control)
  v <- as.data.frame(VarCorr(m))
  values <- c(setNames(v$vcov, names), minus2loglik = -2 * as.numeric(logLik(m)))
  paste0("{", paste(sprintf('"%s": %s', names(values), number(values)), collapse = ", "), "}")
}
read <- function(name, factors) {
  d <- read.csv(file.path("tests/data", paste0(name, ".csv")))
  for (f in factors) d[[f]] <- factor(d[[f]])
  d
}
# The rows of VarCorr as reference.json names them.
cases <- list(
  list("Dyestuff", Yield ~ 1 + (1 | Batch), "Batch", c("Batch", "residual")),
  list("sleepstudy", Reaction ~ Days + (Days | Subject), "Subject",
       c("Intercept", "Days", "cov", "residual")),
  list("sleepstudy", Reaction ~ Days + (Days || Subject), "Subject",
       c("Intercept", "Days", "residual")),
  list("Penicillin", diameter ~ 1 + (1 | plate) + (1 | sample), c("plate", "sample"),
       c("plate", "sample", "residual")),
  list("Pastes", strength ~ 1 + (1 | batch / cask), c("batch", "cask"),
       c("cask:batch", "batch", "residual")))
rows <- sapply(cases, function(case) {
  d <- read(case[[1]], case[[3]])
  formula <- paste(deparse(case[[2]]), collapse = "")
  sprintf('  "%s: %s": {"reml": %s, "ml": %s}', case[[1]],
          gsub(" \\| ", "|", gsub(" \\|\\| ", "||", gsub(" / ", "/", formula))),
          fit(d, case[[2]], case[[4]], TRUE), fit(d, case[[2]], case[[4]], FALSE))
})
source <- sprintf('  "source": "lme4 %s, %s, tests/reference/lme4_mixed.R, written %s"',
                  packageVersion("lme4"), R.version.string, Sys.Date())
writeLines(paste0("{\n", paste(c(source, rows), collapse = ",\n"), "\n}"),
           "tests/reference/lme4_mixed.json")
